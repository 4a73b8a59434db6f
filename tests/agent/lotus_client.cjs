// Lotus' JavaScript client against an agent: does the steps that stdin says, and prints what came of each on a line.
//
//   node lotus_client.cjs FOLDER-OF-node_modules URL TOKEN < steps.json
//
// A step is ["call", METHOD, ...PARAMS], or ["stream", METHOD, PARAMS, COUNT]: a subscription that is cancelled after
// so many values. What comes of it is {"result": …}, {"error": MESSAGE}, {"values": […]}.
const { createRequire } = require('module')
const fs = require('fs')

const [folder, url, token] = process.argv.slice(2)
const peers = createRequire(folder + '/')
const { LotusRPC } = peers('@filecoin-shipyard/lotus-client-rpc')
const { NodejsProvider } = peers('@filecoin-shipyard/lotus-client-provider-nodejs')
const { mainnet } = peers('@filecoin-shipyard/lotus-client-schema')

// The schema is older than these two of Lotus' methods; methods of another namespace are declared like the third.
const methods = {
  ...mainnet.storageMiner.methods,
  DagstoreRegisterShard: {},
  DagstoreLookupPieces: {},
  CarfsCountShards: { namespace: 'Carfs' }
}

async function take (client, method, params, count) {
  const values = []
  let enough
  const reached = new Promise(resolve => { enough = resolve })
  const [cancel, begun] = client[method](value => {
    values.push(value)
    if (values.length === count) enough()
  }, params)
  await begun
  await reached
  await cancel() // ends when the agent has closed the channel
  return values
}

async function main () {
  const client = new LotusRPC(new NodejsProvider(url, { token }), { schema: { methods } })
  for (const [kind, method, ...rest] of JSON.parse(fs.readFileSync(0, 'utf8'))) {
    let outcome
    try {
      outcome = kind === 'stream'
        ? { values: await take(client, method, ...rest) }
        : { result: await client[method](...rest) }
    } catch (error) {
      outcome = { error: error.message }
    }
    console.log(JSON.stringify(outcome))
  }
  await client.destroy()
}

main()
