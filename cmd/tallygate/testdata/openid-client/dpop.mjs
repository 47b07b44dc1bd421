// A certified client with DPoP: a token of the issuer that is bound to the certificate and to a key,
// calls through the gate with a proof each, and the same token without the key. The results are
// printed as JSON.
import {readFileSync} from 'node:fs'
import {request} from 'node:https'
import * as client from 'openid-client'

const {ISSUER, CA, GATE_PORT} = process.env
const tls = {ca: readFileSync(CA), cert: readFileSync('northwind.pem'), key: readFileSync('northwind-key.pem'), agent: false}
const answers = []

// send is a fetch that presents the certificate. The API's host is at the gate's address.
function send(url, options = {}) {
  const {host, hostname, pathname, search} = new URL(url)
  const headers = Object.fromEntries(new Headers(options.headers))
  const at = hostname === 'api.example.com'
    ? {host: '127.0.0.1', port: GATE_PORT, servername: hostname, path: pathname + search, headers: {...headers, host}}
    : {host: hostname, port: new URL(url).port, path: pathname + search, headers}
  return new Promise((resolve, reject) => {
    const sent = request({...tls, ...at, method: options.method ?? 'GET'}, (answer) => {
      const parts = []
      answer.on('data', (part) => parts.push(part))
      answer.on('end', () => {
        answers.push({host, status: answer.statusCode, nonce: answer.headers['dpop-nonce'] ?? ''})
        const list = answer.rawHeaders.flatMap((name, i) => i % 2 ? [] : [[name, answer.rawHeaders[i + 1]]])
        resolve(new Response(parts.length ? Buffer.concat(parts) : null, {status: answer.statusCode, headers: list}))
      })
    })
    sent.on('error', reject)
    sent.end(options.body ? options.body.toString() : undefined)
  })
}

const API = new URL('https://api.example.com/accounts?from=2026-11-01')
const config = await client.discovery(new URL(ISSUER), 'northwind-ledger', {use_mtls_endpoint_aliases: true}, client.TlsClientAuth(),
  {algorithm: 'oauth2', [client.customFetch]: send})
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const token = await client.clientCredentialsGrant(config, {scope: 'accounts:read'}, {DPoP})

async function call(handle) {
  const answer = await client.fetchProtectedResource(config, token.access_token, API, 'GET', undefined, undefined, {DPoP: handle})
  return {status: answer.status, text: await answer.text()}
}

// failed calls and returns what the gate answered.
async function failed(calling) {
  try {
    return await calling()
  } catch (error) {
    return {status: error.status ?? error.response?.status, challenges: error.cause}
  }
}

const first = await call(DPoP)
const second = await call(DPoP)
const calls = answers.filter((a) => a.host === 'api.example.com')
const thief = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const other = await failed(() => call(thief))
const bearer = await send(API, {headers: {authorization: `Bearer ${token.access_token}`}})
console.log(JSON.stringify({
  type: token.token_type, first, second, calls, other,
  bearer: {status: bearer.status, text: await bearer.text(), challenge: bearer.headers.get('www-authenticate')},
}))
