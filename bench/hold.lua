-- Holds of one unit. Arguments: number of products, "keys" for an Idempotency-Key with each request ("plain" sends a header of the
-- same length that means nothing, so that building it costs the same).
wrk.method = "POST"
wrk.path = "/v1/reservations"
wrk.headers["Content-Type"] = "application/json"

local products, header = 1, "X-Nothing-At-All"

function init(args)
  products = tonumber(args[1] or "1")
  if args[2] == "keys" then header = "Idempotency-Key" end
  math.randomseed(os.time())
end

function request()
  wrk.headers[header] = string.format("%08x-%08x-%08x", math.random(0, 2 ^ 31 - 1), math.random(0, 2 ^ 31 - 1), math.random(0, 2 ^ 31 - 1))
  return wrk.format(nil, nil, nil, '{"productId":"p' .. math.random(0, products - 1) .. '","quantity":1,"ttlSeconds":3600}')
end
