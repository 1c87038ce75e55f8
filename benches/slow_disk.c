/* A disk that takes SLOW_DISK_US microseconds longer to make anything durable, for `scripts/bench --disk-us`: how much is
 * gained by sharing commits depends on what one costs, and the machines that benchmarks run on have quick disks. Preloaded
 * into the benchmark, its servers and PostgreSQL alike. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int late(const char *name, int fd)
{
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int done = sync(fd);
    int error = errno;
    const char *text = getenv("SLOW_DISK_US");
    long us = text ? atol(text) : 0;
    struct timespec rest = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
    errno = error;
    return done;
}

int fsync(int fd) { return late("fsync", fd); }
int fdatasync(int fd) { return late("fdatasync", fd); }
