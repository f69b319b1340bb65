// Vercel's AI SDK, by its provider for compatible servers and by OpenAI's, which uses responses.
import assert from 'node:assert/strict'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, embedMany, generateText, Output, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'

const { BASE_URL, MODEL, EMBED_MODEL } = process.env
const compatible = createOpenAICompatible({
  name: 'caravan', baseURL: BASE_URL, apiKey: 'none', includeUsage: true, supportsStructuredOutputs: true,
})
const openai = createOpenAI({ baseURL: BASE_URL, apiKey: 'none' })
const prompt = 'What is the capital of France?'

for (const model of [compatible(MODEL), openai(MODEL), openai.chat(MODEL)]) {
  const shared = { model, temperature: 0, maxRetries: 0, maxOutputTokens: 200 }
  const answer = await generateText({ ...shared, prompt })
  assert.match(answer.text, /Paris/)
  assert.ok(answer.usage.outputTokens > 0)

  const stream = streamText({ ...shared, prompt, onError: ({ error }) => { throw error } })
  let text = ''
  for await (const piece of stream.textStream) text += piece
  assert.equal(text, answer.text)
  assert.ok((await stream.usage).outputTokens > 0)

  const cities = []
  const weather = tool({
    description: 'Get the weather in a city',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => { cities.push(city); return '21 degrees and sunny' },
  })
  const used = await generateText({
    ...shared, prompt: 'What is the weather in Paris?', tools: { get_weather: weather }, stopWhen: stepCountIs(3),
  })
  assert.deepEqual(cities, ['Paris'])
  assert.match(used.text, /sunny/)

  const schema = z.object({ name: z.enum(['Paris', 'Rome']) })
  const made = await generateText({ ...shared, prompt, output: Output.object({ schema }) })
  assert.ok(['Paris', 'Rome'].includes(made.output.name))

  const wrong = generateText({ ...shared, prompt, temperature: 3 })
  await assert.rejects(wrong, error => APICallError.isInstance(error) && error.statusCode === 400 && error.message.length > 0)
}

const thought = await generateText({
  model: compatible(MODEL), prompt, maxRetries: 0,
  providerOptions: { caravan: { chat_template_kwargs: { enable_thinking: true } } },
})
assert.ok(thought.reasoningText, 'thoughts are told')

const vectors = await embedMany({ model: compatible.textEmbeddingModel(EMBED_MODEL), values: ['a', 'b'] })
assert.equal(vectors.embeddings.length, 2)
