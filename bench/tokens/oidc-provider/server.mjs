// Node's certified oidc-provider with the clients of the token benchmark: client_credentials over
// mutual TLS (RFC 8705 section 2.1), and tokens bound to certificates. Tokens are stored in memory, in
// the provider's own adapter.
//
// From the environment: PORT, CERT and KEY (files of the server), CA (the file of the clients'
// authority), CLIENTS (a JSON object from client_id to the DNS name in the certificate), and FORMAT
// (jwt or opaque). The first line on standard output says "listening".
import {readFileSync} from 'node:fs'
import {createServer} from 'node:https'
import {exportJWK, generateKeyPair} from 'jose'

// oidc-provider writes advice with these two when it is loaded, and console.info writes to standard output.
console.info = console.warn = () => {}
const {Provider} = await import('oidc-provider')

const {PORT, CERT, KEY, CA, CLIENTS, FORMAT} = process.env
const {privateKey} = await generateKeyPair('ES256', {extractable: true})
const format = FORMAT === 'jwt' ? {accessTokenFormat: 'jwt', jwt: {sign: {alg: 'ES256'}}} : {accessTokenFormat: 'opaque'}

const provider = new Provider(`https://as.example.test:${PORT}`, {
  clients: Object.entries(JSON.parse(CLIENTS)).map(([id, name]) => ({
    client_id: id,
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_san_dns: name,
    tls_client_certificate_bound_access_tokens: true,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  })),
  jwks: {keys: [{...await exportJWK(privateKey), alg: 'ES256'}]},
  scopes: ['accounts:read'],
  clientAuthMethods: ['tls_client_auth'],
  clientDefaults: {id_token_signed_response_alg: 'ES256'},
  features: {
    devInteractions: {enabled: false},
    clientCredentials: {enabled: true},
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({scope: 'accounts:read', audience: 'https://api.example.test', ...format}),
    },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      certificateBoundAccessTokens: true,
      getCertificate: ({socket}) => socket.getPeerX509Certificate(),
      certificateAuthorized: ({socket}) => socket.authorized,
      certificateSubjectMatches: ({socket}, _, expected) =>
        socket.getPeerX509Certificate().checkHost(expected, {subject: 'never', wildcards: false}) !== undefined,
    },
  },
})
provider.on('server_error', (_, error) => console.error(error))

createServer({
  cert: readFileSync(CERT), key: readFileSync(KEY), ca: readFileSync(CA), requestCert: true, rejectUnauthorized: false,
  keepAliveTimeout: 60_000,
}, provider.callback()).listen(Number(PORT), '127.0.0.1', () => process.stdout.write('listening\n'))
