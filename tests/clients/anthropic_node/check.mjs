// Anthropic's official SDK for Node: messages, streams, tools run, counts, errors.
import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema'

const { BASE_URL, MODEL } = process.env
const client = new Anthropic({ baseURL: BASE_URL.replace(/\/v1$/, ''), apiKey: 'none', maxRetries: 0 })
const ask = { model: MODEL, max_tokens: 100, temperature: 0, messages: [{ role: 'user', content: 'What is the capital of France?' }] }

const answer = await client.messages.create(ask)
assert.match(answer.content[0].text, /Paris/)
const whole = await client.messages.stream(ask).finalMessage()
assert.equal(whole.content[0].text, answer.content[0].text)
const { input_tokens: counted } = await client.messages.countTokens({ model: MODEL, messages: ask.messages })
assert.equal(counted, answer.usage.input_tokens + answer.usage.cache_read_input_tokens)
await assert.rejects(client.messages.create({ ...ask, model: 'nobody' }), Anthropic.NotFoundError)
await assert.rejects(client.messages.create({ ...ask, temperature: 3 }), Anthropic.BadRequestError)
const weather = betaTool({
  name: 'get_weather',
  description: 'Get the weather in a city',
  inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
  run: ({ city }) => `21 degrees and sunny in ${city}`,
})
const messages = [{ role: 'user', content: 'What is the weather in Paris?' }]
const last = await client.beta.messages.toolRunner({ ...ask, messages, tools: [weather] })
assert.match(last.content[0].text, /sunny/)
