tick()
local answers = {}
for at = 5, #ARGV do
  answers[at - 4] = enqueue_one(unpack_one(ARGV[at]))
end
return finish(answers)
