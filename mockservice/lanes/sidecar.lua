-- A pod's sidecar remembers the lane of each inbound request and adds it to the pod's outbound calls.
-- Two constants come before this script: INBOUND, the sidecar's address for calls to the pod, and
-- CARRIERS, a list of {trace, route} header names.

-- The route headers of inbound requests, by carrier and trace. There are two generations: when the
-- young one is full or too old, it becomes the old one, and the former old one is dropped. That
-- bounds both the number and the age of entries.
local LIMIT = 10000
local AGE = 300 -- seconds
local young, old, count, born = {}, {}, 0, os.time()

local function remember(key, lane)
  if count >= LIMIT or os.time() - born > AGE then
    young, old, count, born = {}, young, 0, os.time()
  end
  if young[key] == nil then
    count = count + 1
  end
  -- A request without a lane overrides an earlier one of the same trace.
  young[key] = lane or false
end

local function recall(key)
  local lane = young[key]
  if lane == nil then
    lane = old[key]
  end
  return lane or nil
end

-- The value of a baggage member (W3C Baggage, section 3.3). If there are several, the last one is
-- the gateway's.
local function member(baggage, name)
  local found = nil
  for item in baggage:gmatch("[^,]+") do
    local key, value = item:match("^%s*([^=%s]+)%s*=%s*([^;%s]*)")
    if key == name then
      found = value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
    end
  end
  return found
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local inbound = handle:streamInfo():downstreamLocalAddress() == INBOUND
  if inbound then
    handle:streamInfo():dynamicMetadata():set("sidecar", "inbound", true)
  end
  for index, carrier in ipairs(CARRIERS) do
    local trace = headers:get(carrier.trace)
    if trace ~= nil then
      local lane = nil
      if carrier.trace == "baggage" then
        lane = member(trace, carrier.route)
      elseif inbound then
        remember(index .. " " .. trace, headers:get(carrier.route))
      else
        lane = recall(index .. " " .. trace)
      end
      if lane ~= nil and not inbound then
        headers:replace(carrier.route, lane)
      end
    end
  end
  handle:clearRouteCache()
end
