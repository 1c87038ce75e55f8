//! Where log lines go.

use tracing_log::LogTracer;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// What Rocket says through `log` about single requests, by the beginning of its target. It names URIs, and the guards'
/// code that it generates in this crate prints what it could not read: either may hold a token or a password.
const UNSAFE_TARGETS: [&str; 5] =
    ["counterfoil", "rocket::launch", "rocket::request", "rocket::response", "rocket::server"];

/// Logs a server's life to standard output: `info` and worse, or as `RUST_LOG` says.
pub(super) fn init_for_server(format: LogFormat) {
    init("info,sqlx=warn", format, std::io::stdout);
}

/// Logs what goes wrong below a command to standard error, where `RUST_LOG` asks for it: the command itself says what
/// its user needs to know.
pub(super) fn init_for_command() {
    init("off", LogFormat::Text, std::io::stderr);
}

fn init<W>(default: &str, format: LogFormat, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // An empty one is none: it would leave no line at all.
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.trim().is_empty());
    let filter = asked.and_then(|asked| EnvFilter::try_new(asked).ok()).unwrap_or_else(|| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let set = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(
            subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).finish(),
        ),
    };
    let bridge = LogTracer::builder().with_max_level(log_level()).ignore_all(UNSAFE_TARGETS.map(str::to_owned)).init();
    debug_assert!(set.is_ok() && bridge.is_ok(), "logging is set up once");
}

/// The most that is taken over from `log`: at `info` and below Rocket names every URI.
fn log_level() -> tracing_log::log::LevelFilter {
    tracing_log::log::LevelFilter::Warn
}
