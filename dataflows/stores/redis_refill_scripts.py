"""What a refill of Redis lets the server do by itself, as scripts."""

from __future__ import annotations

# Builds the new hash of some entities under another name, and notes in a list what is to be done at
# the end: "+" to put the new hash in place, "=" the same but that it expires as the old one would,
# "-" to remove the entity, which has nothing left. Entities that are right already are left alone.
# KEYS: the list, perhaps the mark. ARGV: the mark that this refill has left, how the new names
# begin, seconds until keys expire ("" for never), how many fields go, these fields; then for each
# entity the tag of its new name, its key, how many fields and values follow, these.
STAGE = """if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
local begin, ttl, going, at = ARGV[2], ARGV[3], {}, 5 + tonumber(ARGV[4])
for i = 5, at - 1 do going[ARGV[i]] = true end
local staged = 0
while at < #ARGV do
  local tag, key, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local name = begin .. tag .. key .. ':'
  local fresh, fields, same, live = {}, {}, 0, redis.call('HGETALL', key)
  at = at + 3
  for i = at, at + count - 1, 2 do
    fresh[ARGV[i]] = ARGV[i + 1]
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = ARGV[i + 1]
  end
  at = at + count
  for i = 1, #live, 2 do
    local value = fresh[live[i]]
    if value then
      if value == live[i + 1] then same = same + 2 end
    elseif going[live[i]] then
      same = -1
      break
    end
  end
  if same == count then
    if count > 0 and ttl ~= '' then redis.call('EXPIRE', key, ttl) end
    if count > 0 and ttl == '' then redis.call('PERSIST', key) end
  elseif redis.call('EXISTS', name) == 0 then
    for i = 1, #live, 2 do
      if not fresh[live[i]] and not going[live[i]] then
        fields[#fields + 1] = live[i]
        fields[#fields + 1] = live[i + 1]
      end
    end
    for i = 1, #fields, 1000 do
      redis.call('HSET', name, unpack(fields, i, math.min(i + 999, #fields)))
    end
    local what = count > 0 and '+' or #fields > 0 and '=' or '-'
    if what == '=' then
      local left = redis.call('PTTL', key)
      if left >= 0 then redis.call('PEXPIRE', name, left) end
    end
    redis.call('RPUSH', KEYS[1], what .. tag .. key)
    staged = staged + 1
  end
end
return staged"""

# Puts all that was staged in place, in one step: whoever reads comes before it or after it.
# KEYS: the list, perhaps the mark. ARGV: the mark that this refill has left, the mark to be ("" for
# none), how the new names begin, seconds until keys expire ("" for never), how long tags are.
SWAP = """if KEYS[2] then
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
  if ARGV[2] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[2]) end
end
local begin, ttl, skip = ARGV[3], ARGV[4], 2 + tonumber(ARGV[5])
local count = redis.call('LLEN', KEYS[1])
for from = 0, count - 1, 1000 do
  for _, what in ipairs(redis.call('LRANGE', KEYS[1], from, from + 999)) do
    local key, kind, is_there = what:sub(skip), what:byte(), false
    if kind ~= 45 then is_there = redis.pcall('RENAME', begin .. what:sub(2) .. ':', key).ok end
    if not is_there then
      redis.call('UNLINK', key)
    elseif kind == 43 and ttl ~= '' then
      redis.call('EXPIRE', key, ttl)
    end
  end
end
redis.call('UNLINK', KEYS[1])
return count"""
