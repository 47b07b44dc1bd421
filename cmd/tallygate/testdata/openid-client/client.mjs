// A certified client walks the whole way: discovery, the mutual-TLS alias, a token,
// introspection, revocation, and the token inactive afterwards. What it saw comes out
// as JSON.
import {readFileSync} from 'node:fs'
import {request} from 'node:https'
import * as client from 'openid-client'

const {ISSUER, CA} = process.env
const called = []

// speaker returns a fetch that shows a certificate, as the client's documentation
// leaves to its user.
function speaker(name) {
  const tls = {ca: readFileSync(CA), cert: readFileSync(`${name}.pem`), key: readFileSync(`${name}-key.pem`), agent: false}
  return (url, options) => new Promise((resolve, reject) => {
    called.push(new URL(url).origin + new URL(url).pathname)
    const sent = request(url, {...tls, method: options.method, headers: options.headers}, (answer) => {
      const parts = []
      answer.on('data', (part) => parts.push(part))
      answer.on('end', () => {
        const body = parts.length ? Buffer.concat(parts) : null
        resolve(new Response(body, {status: answer.statusCode, headers: answer.headers}))
      })
    })
    sent.on('error', reject)
    sent.end(options.body ? options.body.toString() : undefined)
  })
}

function discover(id, certificate, algorithm) {
  return client.discovery(new URL(ISSUER), id, {use_mtls_endpoint_aliases: true}, client.TlsClientAuth(),
    {algorithm, [client.customFetch]: speaker(certificate)})
}

const application = await discover('northwind-ledger', 'northwind', 'oauth2')
const server = await discover('accounts-api', 'accounts', 'oidc')
const token = await client.clientCredentialsGrant(application, {scope: 'accounts:read'})
const before = await client.tokenIntrospection(server, token.access_token)
await client.tokenRevocation(application, token.access_token)
const after = await client.tokenIntrospection(server, token.access_token)
let refused = ''
try {
  const stranger = await discover('northwind-ledger', 'accounts', 'oauth2')
  await client.clientCredentialsGrant(stranger)
} catch (error) {
  refused = error.error
}
console.log(JSON.stringify({type: token.token_type, scope: token.scope, before, after, refused, called}))
