-- For wrk: sends the requests of a file in their order. A line is one request: method, path, value of the header
-- Authorization, body, with tabs between.
--
-- Arguments: the file, how many lines to leave out at first, and what comes after the last line: "again" from the first
-- line, or "once": then a path that no server has, so that the run is seen to have gone beyond the file.
--
-- Every request is written out before the load begins, so that wrk takes as little of the CPU as it can.
local requests, at, last = {}, 0, nil

function init(args)
   at = tonumber(args[2])
   if args[3] == "once" then last = wrk.format("GET", "/beyond-the-file") end
   for line in io.lines(args[1]) do
      local method, path, authorization, body = line:match("^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$")
      local headers = {}
      if authorization ~= "" then headers["Authorization"] = authorization end
      if body == "" then
         body = nil
      elseif body:sub(1, 1) == "{" then
         headers["Content-Type"] = "application/json"
      else
         headers["Content-Type"] = "application/x-www-form-urlencoded"
      end
      requests[#requests + 1] = wrk.format(method, path, headers, body)
   end
end

function request()
   at = at + 1
   local request = requests[at]
   if request then return request end
   if last then return last end
   at = 1
   return requests[1]
end
