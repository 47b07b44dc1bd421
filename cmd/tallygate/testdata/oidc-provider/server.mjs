// A foreign authorization server: the certified oidc-provider over mutual TLS, which
// a test makes fail and recover by lines on standard input. Each line is answered by
// one line on standard output once it is in force:
//
//   introspection MODE   done    MODE is a name in faults, or ok
//   jwks MODE            done
//   server stopped       done    nothing listens, no connection is left open
//   server ok            done    the same port answers again
//   rotate               done    a new ES256 key signs, the old ones stay published
//   counts               {path: requests since the last counts}
//   requests             what the last introspection request looked like, or null
//
// The first line says "listening". The process ends with its standard input.
//
// From the environment: ISSUER is the issuer identifier, PORT the port where that is not
// the issuer's, AS_CERT and AS_KEY the server's certificate and key (files), CA the
// authority of the client certificates (a file), GATE_JWK the public key of gate-jwt.
// With ALIAS, a base address, the metadata has mtls_endpoint_aliases.
import {once} from 'node:events'
import {readFileSync} from 'node:fs'
import {createServer} from 'node:https'
import {createInterface} from 'node:readline'
import {Readable, pipeline} from 'node:stream'
import {text} from 'node:stream/consumers'
import {setTimeout as sleep} from 'node:timers/promises'
import {exportJWK, generateKeyPair} from 'jose'

// oidc-provider gives its advice by these two as soon as it is loaded, and console.info
// writes to standard output.
console.info = console.warn = () => {}
const {Provider, errors} = await import('oidc-provider')

const {ISSUER, PORT, AS_CERT, AS_KEY, CA, GATE_JWK, ALIAS} = process.env
const paths = {introspection: '/token/introspection', jwks: '/jwks'}
const scope = 'accounts:read accounts:write'
const resources = {
  'https://api.example.test': {scope, accessTokenFormat: 'opaque'},
  'https://jwt.example.test': {scope, accessTokenFormat: 'jwt', jwt: {sign: {alg: 'ES256'}}},
}

function client(id, method, more) {
  return {client_id: id, token_endpoint_auth_method: method, grant_types: [], response_types: [], redirect_uris: [], ...more}
}

function application(id, name, bound) {
  return client(id, 'tls_client_auth', {
    tls_client_auth_san_dns: name,
    grant_types: ['client_credentials'],
    tls_client_certificate_bound_access_tokens: bound,
  })
}

const clients = [
  application('northwind-ledger', 'ledger.northwind.example', true),
  application('borealis-sync', 'sync.borealis.example', true),
  application('plain', 'plain.example.test', false),
  client('gate-mtls', 'tls_client_auth', {tls_client_auth_san_dns: 'gate.example.test'}),
  // A secret that is another one where it is not form-encoded (RFC 6749, section 2.3.1).
  client('gate-basic', 'client_secret_basic', {client_secret: 'basic secret/+%41'}),
  client('gate-post', 'client_secret_post', {client_secret: 'post secret/+%41'}),
  client('gate-jwt', 'private_key_jwt', {jwks: {keys: [JSON.parse(GATE_JWK)]}, token_endpoint_auth_signing_alg: 'ES256'}),
  client('gate-signed', 'tls_client_auth', {
    tls_client_auth_san_dns: 'gate.example.test',
    introspection_signed_response_alg: 'ES256',
  }),
]

// What the provider remembers. It outlives a rotation, and so do the opaque tokens. The
// provider itself looks at how old an entry is.
const memory = new Map()

const adapter = (kind) => ({
  upsert: async (id, payload) => memory.set(`${kind} ${id}`, payload),
  find: async (id) => memory.get(`${kind} ${id}`),
  destroy: async (id) => memory.delete(`${kind} ${id}`),
})

async function signingKey(alg) {
  const {privateKey} = await generateKeyPair(alg, {extractable: true})
  return {...await exportJWK(privateKey), alg}
}

const keys = [await signingKey('ES256'), await signingKey('PS256')]

// provide returns a handler of requests. Of several keys for an algorithm the first signs.
function provide() {
  const provider = new Provider(ISSUER, {
    adapter,
    clients,
    jwks: {keys},
    scopes: scope.split(' '),
    clientAuthMethods: ['tls_client_auth', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    // The defaults are RS256, for which there is no key. Any client that asks for it gets
    // its introspection answer signed.
    clientDefaults: {id_token_signed_response_alg: 'PS256', introspection_signed_response_alg: 'PS256'},
    discovery: ALIAS && {
      mtls_endpoint_aliases: {
        token_endpoint: `${ALIAS}/token`,
        introspection_endpoint: ALIAS + paths.introspection,
        revocation_endpoint: `${ALIAS}/token/revocation`,
      },
    },
    features: {
      devInteractions: {enabled: false},
      clientCredentials: {enabled: true},
      introspection: {enabled: true, allowedPolicy: (_, {clientId}) => clientId.startsWith('gate-')},
      jwtIntrospection: {enabled: true},
      revocation: {enabled: true},
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_, resource) {
          if (!Object.hasOwn(resources, resource)) {
            throw new errors.InvalidTarget()
          }
          return resources[resource]
        },
      },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        certificateBoundAccessTokens: true,
        getCertificate: ({socket}) => socket.getPeerX509Certificate(),
        certificateAuthorized: ({socket}) => socket.authorized,
        // All clients here are registered by a DNS name, so that is what expected is.
        certificateSubjectMatches: ({socket}, _, expected) =>
          socket.getPeerX509Certificate().checkHost(expected, {subject: 'never', wildcards: false}) !== undefined,
      },
    },
  })
  provider.on('server_error', (_, error) => console.error(error))
  return provider.callback()
}

let serve = provide()

function* endless() {
  yield '{"active":true,"padding":"'
  for (;;) {
    yield 'x'.repeat(16384)
  }
}

function answer(res, status, type, body) {
  res.writeHead(status, {'Content-Type': type}).end(body)
}

const faults = {
  async slow(req, res) {
    await sleep(5000)
    serve(req, res)
  },
  500: (_, res) => answer(res, 500, 'text/plain', 'out of order'),
  html: (_, res) => answer(res, 200, 'text/html', '<!doctype html><title>Maintenance</title>'),
  endless(_, res) {
    res.writeHead(200, {'Content-Type': 'application/json'})
    pipeline(Readable.from(endless()), res, () => {}) // ends when the client has had enough
  },
  empty: (_, res) => answer(res, 200, 'application/json', ''),
  204: (_, res) => res.writeHead(204).end(),
  401: (_, res) => answer(res, 401, 'application/json', '{"error":"invalid_client"}'),
  reset: (req) => req.socket.destroy(),
}

const modes = {} // by path; a path without one is ok
let counts = {}
let lastIntrospection = null

async function handle(req, res) {
  const [path] = req.url.split('?')
  counts[path] = (counts[path] ?? 0) + 1
  if (path === paths.introspection) {
    req.body = await text(req) // where the provider looks once the stream is read
    lastIntrospection = {
      method: req.method,
      host: req.headers.host,
      url: req.url,
      authorization: 'authorization' in req.headers,
      parameters: [...new URLSearchParams(req.body).keys()],
      accept: req.headers.accept ?? null,
      certificate: req.socket.getPeerCertificate().subject?.CN ?? null,
    }
  }
  await (faults[modes[path]] ?? serve)(req, res)
}

const tls = {cert: readFileSync(AS_CERT), key: readFileSync(AS_KEY), ca: readFileSync(CA), requestCert: true, rejectUnauthorized: false}
const server = createServer(tls, (req, res) => {
  handle(req, res).catch((error) => { // as when the client goes away while it sends
    console.error(error.message)
    res.destroy()
  })
})

// These are the TCP connections, those in the middle of a TLS handshake among them.
const connections = new Set()
server.on('connection', (connection) => {
  connections.add(connection)
  connection.on('close', () => connections.delete(connection))
})

async function listen() {
  server.listen(PORT ?? new URL(ISSUER).port, '127.0.0.1')
  await once(server, 'listening')
}

async function stop() {
  server.close()
  connections.forEach((connection) => connection.destroy())
  await once(server, 'close')
}

// obey does what a line says and returns the line that answers it.
async function obey(line) {
  const [subject, mode] = line.split(' ')
  if (line === 'counts') {
    const since = counts
    counts = {}
    return JSON.stringify(since)
  }
  if (line === 'requests') {
    return JSON.stringify(lastIntrospection)
  }
  if (line === 'rotate') {
    keys.unshift(await signingKey('ES256'))
    serve = provide()
  } else if (line === 'server stopped') {
    if (server.listening) {
      await stop()
    }
  } else if (line === 'server ok') {
    if (!server.listening) {
      await listen()
    }
  } else if (Object.hasOwn(paths, subject) && (mode === 'ok' || Object.hasOwn(faults, mode))) {
    modes[paths[subject]] = mode
  } else {
    throw new Error(`unknown line: ${line}`)
  }
  return 'done'
}

await listen()
console.log('listening')
for await (const line of createInterface({input: process.stdin})) {
  console.log(await obey(line))
}
process.exit()
