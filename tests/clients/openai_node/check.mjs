// The official SDK for Node: chats, streams, tools, vectors, responses, errors.
import assert from 'node:assert/strict'
import OpenAI from 'openai'

const { BASE_URL, MODEL, EMBED_MODEL } = process.env
const client = new OpenAI({ baseURL: BASE_URL, apiKey: 'none', maxRetries: 0 })
const question = [{ role: 'user', content: 'What is the capital of France?' }]
const ask = { model: MODEL, messages: question, temperature: 0 }

const answer = await client.chat.completions.create(ask)
const said = answer.choices[0].message.content
assert.match(said, /Paris/)

let text = ''
let usage
const chunks = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })
for await (const chunk of chunks) {
  text += chunk.choices[0]?.delta?.content ?? ''
  usage = chunk.usage ?? usage
}
assert.equal(text, said)
assert.ok(usage.completion_tokens > 0)

// Its helper checks the invariants of a stream.
const helper = client.chat.completions.stream(ask)
assert.equal((await helper.finalChatCompletion()).choices[0].message.content, said)

const cities = []
const runner = client.chat.completions.runTools({
  model: MODEL,
  temperature: 0,
  messages: [{ role: 'user', content: 'What is the weather in Paris?' }],
  tools: [{
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Get the weather in a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
      parse: JSON.parse,
      function: ({ city }) => { cities.push(city); return '21 degrees and sunny' },
    },
  }],
})
assert.match(await runner.finalContent(), /sunny/)
assert.deepEqual(cities, ['Paris'])

const vectors = await client.embeddings.create({ model: EMBED_MODEL, input: ['a', 'b'] })
assert.equal(vectors.data.length, 2)
assert.equal(typeof vectors.data[0].embedding[0], 'number')

const response = await client.responses.create({ model: MODEL, input: 'What is the capital of France?', temperature: 0 })
assert.match(response.output_text, /Paris/)
const kinds = []
for await (const event of await client.responses.create({ model: MODEL, input: 'Hello!', stream: true })) kinds.push(event.type)
assert.equal(kinds.at(-1), 'response.completed')

const listed = []
for await (const model of client.models.list()) listed.push(model.id)
assert.ok(listed.includes(MODEL))
await assert.rejects(client.chat.completions.create({ ...ask, model: 'nobody' }), OpenAI.NotFoundError)
await assert.rejects(client.chat.completions.create({ ...ask, temperature: 3 }), OpenAI.BadRequestError)
