-- Each script keeps to one key, or to keys of one hash slot, so that a Redis Cluster could serve it too.
--
-- Epochs are written with 20 digits, so that they compare as text: a number in Lua has 53 bits only. i and s are the run of a node
-- that wrote last, and the number of its write: what a node sent over a connection that it has given up may arrive after what
-- it sent later, and is passed over. Answers: 1 = done, 0 = refused.

--- put KEYS: call. ARGV: epoch, version, owner, blob, run, number. An epoch has one owner: of two nodes that take a call up at once the first has it.
local was = redis.call('HMGET', KEYS[1], 'e', 'i', 's', 'o')
if was[1] and was[1] > ARGV[1] then return 0 end
if was[1] == ARGV[1] and was[4] and was[4] ~= '' and was[4] ~= ARGV[3] then return 0 end
if was[2] == ARGV[5] and tonumber(was[3]) >= tonumber(ARGV[6]) then return 1 end
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'v', ARGV[2], 'o', ARGV[3], 'b', ARGV[4], 'i', ARGV[5], 's', ARGV[6])
redis.call('PERSIST', KEYS[1])
return 1

--- end KEYS: call. ARGV: epoch, run, number, seconds. What is left behind keeps an older epoch from making the call anew.
local was = redis.call('HMGET', KEYS[1], 'e', 'i', 's')
if was[1] and was[1] > ARGV[1] then return 0 end
if was[2] == ARGV[2] and tonumber(was[3]) >= tonumber(ARGV[3]) then return 1 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'i', ARGV[2], 's', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1

--- claim KEYS: call. ARGV: epoch, next epoch, owner. Answers version, blob and who had it, or the epoch that is stored ('' = no record).
local is = redis.call('HMGET', KEYS[1], 'e', 'o', 'v', 'b')
if not is[4] then return {''} end
if is[1] ~= ARGV[1] and not (is[1] == ARGV[2] and is[2] == ARGV[3]) then return {is[1]} end
redis.call('HSET', KEYS[1], 'e', ARGV[2], 'o', ARGV[3])
return {is[3], is[4], is[2]}

--- bind KEYS: devices of a user. ARGV: run, number, seconds, how many are dropped, their fields, then field and value of each written
local was = redis.call('HMGET', KEYS[1], 'i', 's')
if was[1] == ARGV[1] and tonumber(was[2]) >= tonumber(ARGV[2]) then return 1 end
local first = 5 + tonumber(ARGV[4])
for n = 5, first - 1 do redis.call('HDEL', KEYS[1], ARGV[n]) end
for n = first, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
redis.call('HSET', KEYS[1], 'i', ARGV[1], 's', ARGV[2])
if redis.call('HLEN', KEYS[1]) == 2 then redis.call('EXPIRE', KEYS[1], ARGV[3]) else redis.call('PERSIST', KEYS[1]) end
return 1

--- unlink KEYS: dialog. ARGV: call
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1

--- putuser KEYS: users, logins, logins of each user. ARGV: name, value, logins. Answers {login, whose} where one is another's.
for n = 3, #ARGV do
  local whose = redis.call('HGET', KEYS[2], ARGV[n])
  if whose and whose ~= ARGV[1] then return {ARGV[n], whose} end
end
local old = redis.call('HGET', KEYS[3], ARGV[1])
if old then redis.call('HDEL', KEYS[2], unpack(cjson.decode(old))) end
local all = {}
for n = 3, #ARGV do
  redis.call('HSET', KEYS[2], ARGV[n], ARGV[1])
  all[#all + 1] = ARGV[n]
end
redis.call('HSET', KEYS[3], ARGV[1], cjson.encode(all))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return {}

--- removeuser KEYS: users, logins, logins of each user. ARGV: name
local old = redis.call('HGET', KEYS[3], ARGV[1])
if old then redis.call('HDEL', KEYS[2], unpack(cjson.decode(old))) end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1

--- watch KEYS: subscriptions. ARGV: id, owner, value. Another node's is not written: it has claimed it.
local was = redis.call('HGET', KEYS[1], ARGV[1])
if was and string.byte(was, 1) == 0 then
  local whose = string.sub(was, 3, 2 + string.byte(was, 2))
  if ARGV[2] ~= '' and whose ~= ARGV[2] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1

--- unwatch KEYS: subscriptions. ARGV: id, owner
local was = redis.call('HGET', KEYS[1], ARGV[1])
if was and string.byte(was, 1) == 0 and ARGV[2] ~= '' and string.sub(was, 3, 2 + string.byte(was, 2)) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1

--- claimwatch KEYS: subscriptions. ARGV: id, who has it, who shall, the latter as values begin with it. Answers the rest of the value, or nothing.
local was = redis.call('HGET', KEYS[1], ARGV[1])
if not was or string.byte(was, 1) ~= 0 then return {} end
local first = 3 + string.byte(was, 2)
local whose, rest = string.sub(was, 3, first - 1), string.sub(was, first)
if whose ~= ARGV[2] and whose ~= ARGV[3] then return {} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. rest)
return {rest}
