// Kubo's JavaScript client against an agent: reads what stdin says, and prints what came, on one line of JSON.
//
//   node kubo_client.mjs FOLDER-OF-node_modules URL < {"root": CID, "file": NAME, "lost": CID}
import fs from 'node:fs'
import { pathToFileURL } from 'node:url'

const [folder, url] = process.argv.slice(2)
const load = async name => {
  const home = `${folder}/${name}`
  const { exports: { '.': entry } } = JSON.parse(fs.readFileSync(`${home}/package.json`))
  return import(pathToFileURL(`${home}/${entry.import.default ?? entry.import}`))
}
const { create, CID } = await load('kubo-rpc-client')
const { root, file, lost } = JSON.parse(fs.readFileSync(0))
const cid = CID.parse(root)
const node = create({ url })

const all = async source => {
  const found = []
  for await (const one of source) found.push(one)
  return found
}
const bytes = async source => Buffer.concat(await all(source)).toString('base64')

const refused = async call => {
  try {
    await call()
    return null
  } catch (error) {
    return `${error.name}: ${error.message}`
  }
}

console.log(JSON.stringify({
  version: (await node.version()).version,
  block: Buffer.from(await node.block.get(cid)).toString('base64'),
  stat: (await node.block.stat(cid)).size,
  car: await bytes(node.dag.export(cid)),
  refs: (await all(node.refs(cid, { recursive: true, unique: true }))).map(one => one.ref),
  ls: (await all(node.ls(cid))).map(one => [one.name, one.type, one.size, one.cid.toString()]),
  cat: await bytes(node.cat(`/ipfs/${root}/${file}`)),
  part: await bytes(node.cat(`/ipfs/${root}/${file}`, { offset: 2, length: 3 })),
  lost: await refused(() => node.block.get(CID.parse(lost))),
}))
