package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bad has, for each file testdata/bad-<rule>.yaml, all its faults. Apart from the faults, the
// files equal good-minimal.yaml.
var bad = []struct {
	rule   string
	faults []string // line:column: path: message
}{
	// The file and its form.
	{"unknown-key", []string{`1:1: unknown key "lisener", did you mean "listener"?`}},
	{"unknown-key-inside", []string{`13:5: apis[0]: unknown key "host", did you mean "hosts"?`}},
	{"unknown-key-far", []string{`13:5: apis[0]: unknown key "served_under"`}},
	{"duplicate-key", []string{`14:5: apis[0]: duplicate key "name", first on line 12`}},
	{"list-expected", []string{`9:16: authorization_servers[0].audiences: expected a list, got a mapping`}},
	{"mapping-expected", []string{`2:16: listener.certificate: expected a mapping, got a list`}},
	{"text-expected", []string{`13:13: apis[0].hosts[0]: expected text, got a list`}},
	{"number-expected", []string{`2:25: listener.limits.connections: expected a whole number, got "many"`}},
	{"number-octal", []string{`2:25: listener.limits.connections: expected a whole number, got "010"`}},
	{"bool-expected", []string{`20:17: partners.list[0].disabled: expected true or false, got "yes"`}},
	{"duration-expected", []string{`10:13: authorization_servers[0].leeway: expected a duration with its unit, such as 30s, got "30"`}},
	{"level-expected", []string{`23:14: log.level: expected debug, info, warn or error, got "INFO+2"`}},
	{"null", []string{`13:11: apis[0].hosts: expected a list, got nothing`}},
	{"null-url", []string{`14:21: apis[0].upstream.url: expected text, got nothing`}},
	{"null-text", []string{`19:13: partners.list[0].name: expected text, got nothing`}},
	{"empty", []string{`1:1: the file is empty`}},
	{"nothing", []string{`2:1: expected a mapping, got nothing`}},
	{"two-documents", []string{`23:1: expected one document, found a second`}},
	{"syntax", []string{`9:1: not valid YAML: did not find expected ',' or ']'; close the bracket, and separate its elements by commas`}},
	{"tab", []string{`2:1: found a tab; indent with spaces`}},
	{"merge-key", []string{`2:3: listener: merge keys (<<) are not supported; write the keys out, or use an alias for the whole value`}},
	{"explicit-type", []string{`19:13: partners.list[0].name: types such as "!!binary" are not supported here`}},
	{"key-not-text", []string{`2:3: listener: a key must be plain text`}},
	{"key-empty", []string{`23:1: unknown key ""`}},
	{"unknown-anchor", []string{`22:17: not valid YAML: unknown anchor 'granted' referenced`}},
	{"alias-in-itself", []string{`22:27: partners.list[0].applications[0].apis[0]: the alias "granted" is inside the value that it names`}},
	{"deep", []string{
		`23:1: unknown key "unused"`,
		`23:28: unused[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested more than 20 levels deep`,
	}},

	// Values of the typed scalars.
	{"address", []string{`2:12: listener.address: an address is host:port, such as "127.0.0.1:8443", "[::1]:8443" or ":8443"`}},
	{"address-port", []string{`2:12: listener.address: the port of an address is a number from 0 to 65535`}},
	{"insecure-rsa", []string{
		`20:32: partners.list[0].insecure_rsa_1024_until: needs trust of the partner's own: the listener's anchors are shared with other partners`,
		`25:32: partners.list[1].insecure_rsa_1024_until: expected a date such as 2027-06-30, got "next year"`,
	}},
	{"tls-version", []string{`2:20: listener.minimum_version: expected "1.2" or "1.3", got "1.1"`}},
	{"bytes", []string{`2:26: listener.limits.header_bytes: a size is a whole number with the unit B, KiB, MiB or GiB, such as 32KiB`}},
	{"on-failure", []string{`6:17: listener.client_certificates.on_failure: expected respond or handshake, got "ignore"`}},
	{"revocation", []string{
		`7:29: listener.client_certificates.revocation.lists[1]: is the same as listener.client_certificates.revocation.lists[0]`,
		`7:43: listener.client_certificates.revocation.lists[2]: a URL starts with https:// or http://`,
		`8:16: listener.client_certificates.revocation.refresh: must be from 1s to 24h0m0s, is 1ms`,
		`9:19: listener.client_certificates.revocation.when_stale: expected refuse or accept, got "ignore"`,
	}},
	{"revocations", []string{
		`21:3: revocations.client_id: is required`,
		`21:11: revocations.server: the gate needs a certificate to authenticate: authorization_servers[0].connection.certificate`,
		`24:7: revocations.feeds[1]: must start with https://: the gate authenticates there by its certificate`,
		`25:7: revocations.feeds[2]: is the same as revocations.feeds[0]`,
		`26:7: revocations.feeds[3]: must have no query and no fragment: the gate adds its client_id`,
		`27:18: revocations.max_staleness: must be from 5s to 24h0m0s, is 1s`,
		`28:15: revocations.when_stale: introspect needs authorization_servers[0].introspection on line 3`,
	}},
	{"revocations-server", []string{
		`19:11: revocations.server: there is no authorization server "partner", did you mean "partners"?`,
		`20:10: revocations.feeds: an empty list has no feed; leave it out for the feed at the issuer`,
		`22:18: revocations.max_staleness: must be from 5s to 24h0m0s, is 48h0m0s`,
		`23:15: revocations.when_stale: expected refuse, introspect or continue, got "proceed"`,
	}},
	{"revocations-opaque", []string{
		`21:23: revocations.server: authorization_servers[0] accepts no JWTs by tokens on line 6, so the gate has no keys to verify the revocations`,
		`21:23: revocations.server: the gate needs a certificate to authenticate: authorization_servers[0].connection.certificate`,
		`21:23: revocations.server: the issuer on line 4 has no https URL: set feeds`,
	}},
	{"revocations-issuer", []string{
		`30:14: revocations: excludes issuer on line 26: the gate knows the revocations of an issuer in its own process at once`,
	}},
	{"revocation-without-lists", []string{
		`7:20: listener.client_certificates.revocation.authorities: has no effect without lists`,
		`8:15: listener.client_certificates.revocation.exempt: has no effect without lists`,
	}},
	{"path-contents", []string{`5:12: listener.certificate.files.key: expected the path of a file, not its contents`}},
	{"name", []string{`19:13: partners.list[0].name: a name is 1 to 64 letters, digits, dots, underscores and hyphens, first a letter or digit`}},
	{"client-id", []string{`21:22: partners.list[0].applications[0].client_id: a client identifier is 1 to 128 printable ASCII characters without spaces`}},
	{"identifier", []string{`8:13: authorization_servers[0].issuer: an issuer identifier starts with https:// (RFC 8414 section 2)`}},
	{"identifier-query", []string{`8:13: authorization_servers[0].issuer: an issuer identifier has no query (RFC 8414 section 2)`}},
	{"url", []string{`14:21: apis[0].upstream.url: expected an absolute URL, such as https://api.example.com`}},
	{"url-authority", []string{`14:21: apis[0].upstream.url: expected an absolute URL, such as https://api.example.com`}},
	{"url-password", []string{`14:21: apis[0].upstream.url: a URL here has no user and no password`}},
	{"host-wildcard", []string{`13:13: apis[0].hosts[0]: a wildcard stands for the first label of a name, as in *.example.com`}},
	{"host-port", []string{`13:13: apis[0].hosts[0]: a host is a DNS name or an IP address, without scheme, port, path and trailing dot`}},
	{"method", []string{`16:20: apis[0].routes[0].methods[0]: a method is upper-case letters and hyphens, such as GET`}},
	{"method-trace", []string{`16:20: apis[0].routes[0].methods[0]: TRACE cannot be forwarded`}},
	{"pattern", []string{`16:32: apis[0].routes[0].path: a path pattern starts with "/"`}},
	{"scope", []string{`16:59: apis[0].routes[0].scopes[0]: a scope is printable ASCII without spaces, quotation marks and backslashes; write several as a list`}},
	{"algorithm", []string{`10:18: authorization_servers[0].algorithms[0]: expected ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512, EdDSA or Ed25519, got "HS256", did you mean "ES256"?`}},
	{"authentication", []string{`22:27: partners.list[0].applications[0].authentication: expected tls_client_auth or self_signed_tls_client_auth, got "client_secret_basic"`}},
	{"usages", []string{`22:20: partners.list[0].applications[0].usages[0]: expected client_auth or server_auth, got "serverAuth", did you mean "server_auth"?`}},
	{"dn", []string{`22:37: partners.list[0].applications[0].certificate.subject_dn: "northwind" is not an attribute; write type=value, such as CN=name`}},
	{"san-uri", []string{`22:34: partners.list[0].applications[0].certificate.san_uri: expected an absolute URI with its scheme, such as spiffe://example.com/ledger`}},
	{"san-uri-empty", []string{`22:34: partners.list[0].applications[0].certificate.san_uri: expected an absolute URI with its scheme, such as spiffe://example.com/ledger`}},
	{"san-ip", []string{`22:33: partners.list[0].applications[0].certificate.san_ip: expected an IP address without brackets, zone, port and prefix length, such as 192.0.2.1 or 2001:db8::1`}},
	{"san-ip-prefix", []string{`22:33: partners.list[0].applications[0].certificate.san_ip: expected an IP address without brackets, zone, port and prefix length, such as 192.0.2.1 or 2001:db8::1`}},
	{"san-ip-port", []string{`22:33: partners.list[0].applications[0].certificate.san_ip: expected an IP address without brackets, zone, port and prefix length, such as 192.0.2.1 or 2001:db8::1`}},
	{"san-ip-empty", []string{`22:33: partners.list[0].applications[0].certificate.san_ip: expected an IP address without brackets, zone, port and prefix length, such as 192.0.2.1 or 2001:db8::1`}},
	{"san-email", []string{`22:36: partners.list[0].applications[0].certificate.san_email: expected a mail address without display name, such as ledger@example.com`}},
	{"san-email-display", []string{`22:36: partners.list[0].applications[0].certificate.san_email: expected a mail address without display name, such as ledger@example.com`}},
	{"token-format", []string{`22:25: partners.list[0].applications[0].token_format: expected jwt or opaque, got "paseto"`}},
	{"thumbprint", []string{`22:39: partners.list[0].applications[0].certificate.thumbprints[0]: a thumbprint is the SHA-256 of a certificate: 43 characters of base64url without padding, or 64 hexadecimal digits with or without colons`}},
	{"header-forwarded", []string{`23:29: identity_headers.partner: X-Forwarded-Host is reserved and cannot carry an identity`}},
	{"header-request-id", []string{`23:29: identity_headers.partner: X-Request-Id is reserved and cannot carry an identity`}},
	{"header-prefix-forwarded", []string{`23:28: identity_headers.prefix: X-Forwarded- is reserved and cannot carry an identity`}},
	{"header-long", []string{`23:29: identity_headers.partner: a header name is at most 64 characters`}},
	{"header-space", []string{`23:29: identity_headers.partner: a header name is letters, digits and hyphens, first a letter or digit`}},
	{"header-underscore", []string{`23:29: identity_headers.partner: a header name is letters, digits and hyphens, first a letter or digit`}},
	{"header-reserved", []string{`23:33: identity_headers.certificate: Content-Length is reserved and cannot carry an identity`}},

	// Required keys.
	{"required-certificate", []string{`3:12: listener.certificate.files.key: is required`}},
	{"acme-and-files", []string{`3:5: listener.certificate: files and acme exclude each other`}},
	{"acme-empty", []string{
		`3:11: listener.certificate.acme.domains: at least one is required`,
		`3:11: listener.certificate.acme.email: is required`,
		`3:11: listener.certificate.acme.storage: is required`,
	}},
	{"acme-unread", []string{`3:11: listener.certificate.acme: expected a mapping, got a list`}},
	{"acme-domains", []string{
		`4:34: listener.certificate.acme.domains[1]: expected a DNS name: a certificate for a wildcard or an IP address comes from files`,
		`4:45: listener.certificate.acme.domains[2]: expected a DNS name: a certificate for a wildcard or an IP address comes from files`,
		`4:62: listener.certificate.acme.domains[3]: is the same as listener.certificate.acme.domains[0]`,
	}},
	{"acme-directory", []string{
		`3:47: listener.certificate.acme.email: expected a mail address without display name, such as ledger@example.com`,
		`3:81: listener.certificate.acme.directory: must start with https:// (RFC 8555 section 6.1)`,
		`3:132: listener.certificate.acme.directory_trust: an empty list trusts nothing; leave it out for the system's anchors`,
	}},
	{"acme-http-address", []string{`3:93: listener.certificate.acme.http_address: ":8443" takes the port that listener.address has at ":8443"`}},
	{"issuer-acme", []string{`31:17: issuer.certificate: unknown key "acme"`}},
	{"required-server", []string{`1:1: authorization_servers: at least one is required: without one, no token is accepted`}},
	{"required-server-fields", []string{
		`7:5: authorization_servers[0].name: is required`,
		`7:5: authorization_servers[0].issuer: is required`,
		`7:5: authorization_servers[0].audiences: at least one is required: an empty list accepts no token`,
	}},
	{"required-apis", []string{
		`11:7: apis: at least one is required`,
		`17:17: partners.list[0].applications[0].apis: at least one is required: an empty list allows nothing`,
	}},
	{"required-api-fields", []string{
		`12:5: apis[0].hosts: at least one is required`,
		`12:5: apis[0].upstream.url: is required`,
		`12:5: apis[0].routes: at least one is required: an empty list offers nothing`,
	}},
	{"required-route-fields", []string{
		`16:9: apis[0].routes[0].methods: at least one is required: an empty list offers nothing`,
		`16:9: apis[0].routes[0].path: is required`,
	}},
	{"required-client", []string{
		`21:11: partners.list[0].applications[0].client_id: is required`,
		`21:11: partners.list[0].applications[0].apis: at least one is required: an empty list allows nothing`,
	}},
	{"required-grant", []string{`22:18: partners.list[0].applications[0].apis[0].api: is required`}},

	// listener
	{"limit-header-bytes", []string{`2:26: listener.limits.header_bytes: must be from 4KiB to 1024KiB, is 2048 bytes`}},
	{"limit-zero", []string{
		`2:24: listener.limits.body_bytes: must be at least 1, is 0`,
		`2:40: listener.limits.connections: must be at least 1, is 0`,
		`2:59: listener.limits.header_timeout: must be from 1ms to 24h0m0s, is 0s`,
		`2:78: listener.limits.stall_timeout: must be from 1ms to 24h0m0s, is 0s`,
		`2:96: listener.limits.idle_timeout: must be from 1ms to 24h0m0s, is -1s`,
		`2:126: listener.limits.connections_per_address: must be at least 1, is 0`,
		`2:139: listener.limits.requests: must be at least 1, is 0`,
		`2:161: listener.limits.handshake_timeout: must be from 1ms to 24h0m0s, is 0s`,
	}},
	{"correlation", []string{
		`20:22: partners.list[0].trace_context: expected new or trusted, got "continue"`,
		`24:27: correlation.request_id: expected new or client, got "keep"`,
		`24:54: correlation.fapi_interaction_id: expected true or false, got "yes"`,
	}},
	{"tracing", []string{
		`23:21: tracing.endpoint: must have no query: /v1/traces is added to it`,
		`23:65: tracing.sample: expected a number from 0 to 1, such as 0.01`,
		`23:77: tracing.trust: an empty list trusts nothing; leave it out for the system's anchors`,
	}},
	{"tracing-http", []string{
		`23:58: tracing.sample: expected a number from 0 to 1, such as 0.01`,
		`23:70: tracing.trust: has no effect: the endpoint is not https`,
	}},
	{"tracing-grpc", []string{
		`23:21: tracing.endpoint: a URL starts with https:// or http://`,
		`23:71: tracing.trust[1]: is the same as tracing.trust[0]`,
	}},
	{"drain", []string{
		`23:16: drain.delay: must be from 0s to 1h0m0s, is -1s`,
		`23:30: drain.timeout: must be from 1ms to 1h0m0s, is 0s`,
	}},
	{"admin-hosts", []string{
		`23:17: admin.hosts[0]: name each host: a wildcard would match names that other people control`,
		`23:52: admin.hosts[2]: is the same as admin.hosts[1]`,
	}},
	{"trust-empty-path", []string{`5:13: listener.client_certificates.trust[0]: is required`}},
	{"console-address", []string{
		`23:28: admin.console.address: must be a loopback address, such as 127.0.0.1:9091, because the console has no login; reach it by kubectl port-forward POD 9091:9091, or by ssh -L 9091:127.0.0.1:9091 HOST`,
	}},
	{"addresses", []string{`1:1: admin.address: "127.0.0.1:9090" takes the port that listener.address has at ":9090"`}},
	{"front-from", []string{`6:11: listener.client_certificates.from: expected tls or header, got "anywhere"`}},
	{"front-missing", []string{`5:5: listener.client_certificates.header: is required with from: header: it names the trusted proxies`}},
	{"front-unused", []string{`7:7: listener.client_certificates.header: is for from: header only`}},
	{"front-handshake", []string{`7:17: listener.client_certificates.on_failure: handshake is for from: tls only`}},
	{"front-nobody", []string{`8:7: listener.client_certificates.header.trusted_proxies: addresses or certificates are required: no proxy is trusted by default`}},
	{"front-empty", []string{
		`8:16: listener.client_certificates.header.formats: at least one is required: the gate reads no other format`,
		`9:24: listener.client_certificates.header.trusted_proxies: addresses or certificates are required: no proxy is trusted by default`,
	}},
	{"front-formats", []string{
		`8:23: listener.client_certificates.header.formats[1]: expected rfc9440, xfcc or pem, got "hash"`,
		`8:29: listener.client_certificates.header.formats[2]: is the same as listener.client_certificates.header.formats[0]`,
	}},
	{"front-pem-nameless", []string{`8:7: listener.client_certificates.header.pem_header: is required for the format pem`}},
	{"front-pem-unused", []string{`9:19: listener.client_certificates.header.pem_header: is for the format pem only`}},
	{"front-pem-taken", []string{`9:19: listener.client_certificates.header.pem_header: Client-Cert belongs to another format`}},
	{"front-pem-reserved", []string{`9:19: listener.client_certificates.header.pem_header: Authorization is reserved and cannot carry a certificate`}},
	{"front-everybody", []string{
		`9:37: listener.client_certificates.header.trusted_proxies.addresses[0]: 0.0.0.0/0 is wider than any private network: the prefix must be at least /8`,
		`9:48: listener.client_certificates.header.trusted_proxies.addresses[1]: ::/0 is wider than any private network: the prefix must be at least /7`,
		`9:56: listener.client_certificates.header.trusted_proxies.addresses[2]: 0.0.0.0/1 is wider than any private network: the prefix must be at least /8`,
		`9:67: listener.client_certificates.header.trusted_proxies.addresses[3]: 2000::/3 is wider than any private network: the prefix must be at least /7`,
	}},
	{"front-addresses", []string{
		`9:37: listener.client_certificates.header.trusted_proxies.addresses[0]: has bits after its prefix; the network is 10.0.0.0/8`,
		`9:49: listener.client_certificates.header.trusted_proxies.addresses[1]: expected an IP address or addresses with one prefix, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32`,
		`9:68: listener.client_certificates.header.trusted_proxies.addresses[2]: expected an IP address or addresses with one prefix, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32`,
		`9:81: listener.client_certificates.header.trusted_proxies.addresses[3]: expected an IP address or addresses with one prefix, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32`,
	}},
	{"front-address-twice", []string{`9:48: listener.client_certificates.header.trusted_proxies.addresses[1]: is the same as listener.client_certificates.header.trusted_proxies.addresses[0]`}},
	{"front-certificates-empty", []string{
		`9:39: listener.client_certificates.header.trusted_proxies.certificates.san_dns: at least one is required: the anchors may have certified other servers too`,
		`9:39: listener.client_certificates.header.trusted_proxies.certificates.trust: at least one is required: partners' anchors are not used here`,
	}},
	{"front-certificates", []string{
		`9:63: listener.client_certificates.header.trusted_proxies.certificates.san_dns[1]: is not a DNS name`,
		`9:67: listener.client_certificates.header.trusted_proxies.certificates.san_dns[2]: is the same as listener.client_certificates.header.trusted_proxies.certificates.san_dns[0]`,
		`9:89: listener.client_certificates.header.trusted_proxies.certificates.trust[0]: is required`,
	}},
	{"proxy-protocol", []string{`2:29: listener.proxy_protocol.trusted: at least one is required`}},
	{"proxy-protocol-everybody", []string{`2:30: listener.proxy_protocol.trusted[0]: 0.0.0.0/0 is wider than any private network: the prefix must be at least /8`}},
	{"addresses-issuer", []string{`28:12: issuer.address: ":8443" takes the port that listener.address has at ":8443"`}},

	// authorization_servers
	{"server-name-twice", []string{`11:11: authorization_servers[1].name: the name "partners" is already used by authorization_servers[0].name on line 7`}},
	{"server-issuer-twice", []string{`12:13: authorization_servers[1].issuer: the issuer "https://as.example.com" is already used by authorization_servers[0].issuer on line 8`}},
	{"audience-empty", []string{`9:17: authorization_servers[0].audiences[0]: must not be empty`}},
	{"audiences-empty", []string{`9:16: authorization_servers[0].audiences: at least one is required: an empty list accepts no token`}},
	{"audience-space", []string{`9:17: authorization_servers[0].audiences[0]: must not begin or end with a space, nor have control characters`}},
	{"algorithms-empty", []string{`10:17: authorization_servers[0].algorithms: at least one is required: an empty list accepts no token`}},
	{"types-empty", []string{`10:12: authorization_servers[0].types: at least one is required: an empty list accepts no token`}},
	{"type-unknown", []string{`10:13: authorization_servers[0].types[0]: expected at+jwt, application/at+jwt, JWT or absent, got "id_token"`}},
	{"claims", []string{
		`10:19: authorization_servers[0].client_claim: sub must be the only claim: in a token that lacks the others, a user whose sub equals a client_id would be taken for that client (RFC 9068 section 5)`,
		`11:20: authorization_servers[0].subject_claim: "iss" has a meaning of its own in every token; name another claim`,
		`12:27: authorization_servers[0].audience_claim[1]: is the same as authorization_servers[0].audience_claim[0]`,
		`12:32: authorization_servers[0].audience_claim[2]: "exp" has a meaning of its own in every token; name another claim`,
		`14:19: authorization_servers[0].scope_prefix: must be printable ASCII without spaces, quotation marks and backslashes (RFC 6749 section 3.3)`,
		`15:22: authorization_servers[0].roles_as_scopes: is scope_claim already, whose values are scopes in any case; leave it out`,
		`16:25: authorization_servers[0].confirmation_claim: expected cnf or ext.cnf, got "ext"`,
	}},
	{"claims-empty", []string{
		`10:19: authorization_servers[0].client_claim: at least one is required: an empty list finds nothing in any token`,
		`11:21: authorization_servers[0].audience_claim: at least one is required: an empty list finds nothing in any token`,
		`12:14: authorization_servers[0].profile: expected rfc9068, keycloak, entra, entra-v1, okta, auth0, ping, cognito, duende, curity or hydra, got "azure"`,
	}},
	{"profile", []string{
		`10:14: authorization_servers[0].profile: expected rfc9068, keycloak, entra, entra-v1, okta, auth0, ping, cognito, duende, curity or hydra, got "keyclok", did you mean "keycloak"?`,
	}},
	{"issuer-template", []string{`8:13: authorization_servers[0].issuer: must be one issuer: a template or wildcard would accept tokens of every tenant`}},
	{"entra-tenant", []string{`8:13: authorization_servers[0].issuer: must name one tenant by its GUID, as the token's iss does; common, organizations and consumers stand for many tenants`}},
	{"entra-version", []string{`8:13: authorization_servers[0].issuer: tokens of version 2.0 have an issuer that ends in /v2.0; version 1.0 (https://sts.windows.net/…/) is profile: entra-v1`}},
	{"entra-v1-version", []string{`8:13: authorization_servers[0].issuer: tokens of version 1.0 have the issuer https://sts.windows.net/…/; version 2.0 is profile: entra`}},
	{"client-claim-servers", []string{`10:5: authorization_servers[1]: partners is required: client_claim is not client_id alone, and without partners the server could name the clients of other servers`}},
	{"claims-own", []string{
		`10:14: authorization_servers[0].profile: must not be set for our own issuer: its tokens follow RFC 9068`,
		`11:19: authorization_servers[0].client_claim: must not be set for our own issuer: its tokens follow RFC 9068`,
		`12:19: authorization_servers[0].scope_prefix: must not be set for our own issuer: its tokens follow RFC 9068`,
		`26:3: issuer.signing.algorithm: ES256 is not among authorization_servers[0].algorithms on line 7: the tokens would be refused`,
	}},
	{"type-case", []string{`10:13: authorization_servers[0].types[0]: expected at+jwt, application/at+jwt, JWT or absent, got "Absent", did you mean "absent"?`}},
	{"leeway", []string{`10:13: authorization_servers[0].leeway: must be from 0s to 5m0s, is 6m0s`}},
	{"key-set-both", []string{`10:14: authorization_servers[0].key_set: url and file exclude each other`}},
	{"server-partners", []string{
		`10:16: authorization_servers[0].partners[0]: there is no partner "nortwind", did you mean "northwind"?`,
		`10:37: authorization_servers[0].partners[2]: is the same as authorization_servers[0].partners[1]`,
		`14:15: authorization_servers[1].partners: an empty list allows no partner; leave it out for all partners`,
	}},
	{"server-partners-two-speakers", []string{`28:11: partners.list[0].applications[0]: any of 2 authorization servers could bind tokens for this application to any certificate, since it has neither an anchor nor a registered certificate; register thumbprints, or name each server's partners`}},
	{"also-introspect-own", []string{`10:22: authorization_servers[0].also_introspect: must not be set for our own issuer: the gate knows its revocations at once`}},
	{"assertion-nameless", []string{`15:61: apis[0].routes[0].assertion: needs a header: identity_headers.assertion is empty`}},
	{"connection-certificate", []string{`10:31: authorization_servers[0].connection.certificate.certificate: is required`}},
	{"connection-trust-empty", []string{`10:25: authorization_servers[0].connection.trust: an empty list trusts nothing; leave it out for the system's anchors`}},
	{"connection-proxy", []string{
		`11:7: authorization_servers[0].connection: proxy and proxy_from_environment exclude each other`,
		`11:58: authorization_servers[0].connection.insecure_http_hosts[2]: is the same as authorization_servers[0].connection.insecure_http_hosts[1]`,
		`11:68: authorization_servers[0].connection.insecure_http_hosts[3]: must be a service of the cluster: a name of one label, or one that ends in .svc or .svc.cluster.local`,
		`11:84: authorization_servers[0].connection.insecure_http_hosts[4]: must be a service of the cluster: a name of one label, or one that ends in .svc or .svc.cluster.local`,
		`11:94: authorization_servers[0].connection.insecure_http_hosts[5]: must be a service of the cluster: a name of one label, or one that ends in .svc or .svc.cluster.local`,
		`12:14: authorization_servers[0].connection.proxy: must start with http://: the proxy forwards TLS, which ends at the server`,
	}},
	{"http-service", []string{`10:20: authorization_servers[0].key_set.url: must start with https://: a changed key set accepts forged tokens; connection.insecure_http_hosts allows http to a service of the cluster`}},
	{"connection-unused", []string{`11:17: authorization_servers[0].connection: has no effect: nothing is fetched from this server`}},
	{"introspection-also-opaque", []string{`11:22: authorization_servers[0].also_introspect: has no effect: by tokens on line 10 the server issues no JWTs`}},
	{"introspection-bounds", []string{
		`11:110: authorization_servers[0].introspection.timeout: must be from 10ms to 30s, is 1m0s`,
		`11:127: authorization_servers[0].introspection.concurrency: must be from 1 to 10000, is 0`,
		`12:24: authorization_servers[0].introspection.cache.entries: must be 0 (no cache) or more, is -1`,
		`12:37: authorization_servers[0].introspection.cache.max_age: must be from 0s to 24h0m0s, is 48h0m0s`,
		`12:60: authorization_servers[0].introspection.cache.inactive_entries: must be 0 (no cache) or more, is -2`,
		`12:82: authorization_servers[0].introspection.cache.inactive_max_age: must be from 0s to 1h0m0s, is 2h0m0s`,
		`12:102: authorization_servers[0].introspection.cache.stale_on_error: must be from 0s to 24h0m0s, is 48h0m0s`,
	}},
	{"introspection-certificate", []string{`11:20: authorization_servers[0].introspection.authentication.method: tls_client_auth needs the gate's own certificate: connection.certificate`}},
	{"introspection-client", []string{`11:20: authorization_servers[0].introspection.client_id: is required`}},
	{"introspection-http", []string{`11:31: authorization_servers[0].introspection.endpoint: must start with https://: the gate sends tokens there and trusts the responses`}},
	{"introspection-key", []string{
		`11:54: authorization_servers[0].introspection.authentication.key_file: is required`,
		`11:93: authorization_servers[0].introspection.authentication.secret_file: is for client_secret_basic or client_secret_post only`,
	}},
	{"introspection-method", []string{`11:63: authorization_servers[0].introspection.authentication.method: expected tls_client_auth, client_secret_basic, client_secret_post, private_key_jwt or bearer, got "none"`}},
	{"introspection-missing-also", []string{`7:5: authorization_servers[0]: opaque tokens and also_introspect need introspection`}},
	{"introspection-missing", []string{`7:5: authorization_servers[0]: opaque tokens and also_introspect need introspection`}},
	{"introspection-own", []string{`11:20: authorization_servers[0].introspection: must not be set for our own issuer: the gate asks it in this process`}},
	{"introspection-secret", []string{`11:54: authorization_servers[0].introspection.authentication.secret_file: is required`}},
	{"introspection-token", []string{
		`11:37: authorization_servers[0].introspection.authentication.token_file: is required`,
		`11:62: authorization_servers[0].introspection.authentication.key_id: is for private_key_jwt only`,
		`11:75: authorization_servers[0].introspection.authentication.key_file: is for private_key_jwt only`,
	}},
	{"introspection-unread", []string{`11:20: authorization_servers[0].introspection: expected a mapping, got a list`}},
	{"introspection-unused", []string{`10:20: authorization_servers[0].introspection: has no effect without opaque tokens (tokens: opaque or both), also_introspect or when_stale: introspect`}},
	{"issuer-http", []string{`8:13: authorization_servers[0].issuer: an issuer identifier starts with https:// (RFC 8414 section 2)`}},
	{"issuer-loopback", []string{`8:13: authorization_servers[0].issuer: an issuer identifier starts with https:// (RFC 8414 section 2); connection.insecure_loopback_http: true allows http to this machine`}},
	{"key-set-jwks", []string{`10:21: authorization_servers[0].key_set.jwks: expected a JWK Set as JSON text, an object with a list of keys (RFC 7517 section 5)`}},
	{"key-set-loopback", []string{`10:20: authorization_servers[0].key_set.url: must start with https://: a changed key set accepts forged tokens; connection.insecure_loopback_http: true allows http to this machine`}},
	{"key-set-unused", []string{`11:14: authorization_servers[0].key_set: has no effect without JWTs, signed introspection responses or security_events`}},
	{"own-issuer-http", []string{
		`8:13: authorization_servers[0].issuer: an issuer identifier starts with https:// (RFC 8414 section 2)`,
		`23:11: issuer.issuer: an issuer identifier starts with https:// (RFC 8414 section 2)`,
	}},
	{"tokens", []string{`10:13: authorization_servers[0].tokens: expected jwt, opaque or both, got "saml"`}},
	{"key-set-http", []string{`10:20: authorization_servers[0].key_set.url: must start with https://: a changed key set accepts forged tokens`}},
	{"key-set-times", []string{
		`10:58: authorization_servers[0].key_set.refresh: must be from 1s to 720h0m0s, is 0s`,
		`10:73: authorization_servers[0].key_set.cool_down: must be from 1s to 720h0m0s, is 0s`,
	}},
	{"key-set-stale", []string{`10:73: authorization_servers[0].key_set.max_stale: must be from 1h0m0s to 720h0m0s, is 30m0s`}},
	{"cache", []string{`10:22: authorization_servers[0].cache.entries: must be 0 (no cache) or more, is -1`}},

	// apis
	{"api-name-twice", []string{`17:11: apis[1].name: the name "accounts" is already used by apis[0].name on line 12`}},
	{"api-name-reserved", []string{`12:11: apis[0].name: "unmatched" is reserved: metrics use it`}},
	{"api-name-none", []string{`12:11: apis[0].name: "none" is reserved: metrics use it`}},
	{"hosts-empty", []string{`13:12: apis[0].hosts: at least one is required`}},
	{"host-twice", []string{`13:30: apis[0].hosts[1]: is the same as apis[0].hosts[0]`}},
	{"upstream-path", []string{`14:21: apis[0].upstream.url: must have no path: the gate forwards the path of the request`}},
	{"upstream-query", []string{`14:21: apis[0].upstream.url: must have no query`}},
	{"upstream-scheme", []string{`14:21: apis[0].upstream.url: a URL starts with https:// or http://`}},
	{"socket", []string{`14:21: apis[0].upstream.url: a socket is unix:// and its absolute path, at most 107 characters, such as unix:///run/accounts.sock`}},
	{"socket-dots", []string{`14:21: apis[0].upstream.url: a socket is unix:// and its absolute path, at most 107 characters, such as unix:///run/accounts.sock`}},
	{"socket-long", []string{`14:21: apis[0].upstream.url: a socket is unix:// and its absolute path, at most 107 characters, such as unix:///run/accounts.sock`}},
	{"upstream-idle-timeout", []string{`14:60: apis[0].upstream.idle_timeout: must be from 1ms to 24h0m0s, is 0s`}},
	{"upstream-requests", []string{`14:56: apis[0].upstream.requests: must be at least 1, is 0`}},
	{"upstream-protocol", []string{`14:56: apis[0].upstream.protocol: expected http1, h2 or h2c, got "h3", did you mean "h2"?`}},
	{"upstream-h2", []string{`14:56: apis[0].upstream.protocol: h2 is HTTP/2 over TLS and needs an https URL; the name for clear text is h2c`}},
	{"upstream-h2-socket", []string{`14:55: apis[0].upstream.protocol: h2 is HTTP/2 over TLS and needs an https URL; the name for clear text is h2c`}},
	{"upstream-h2c", []string{`14:57: apis[0].upstream.protocol: h2c is HTTP/2 in clear text; the name over TLS is h2`}},
	{"upstream-tls", []string{`14:50: apis[0].upstream.tls: has no effect: the URL is not https`}},
	{"upstream-trust-empty", []string{`14:60: apis[0].upstream.tls.trust: an empty list trusts nothing; leave it out for the system's anchors`}},
	{"upstream-trust-twice", []string{`14:68: apis[0].upstream.tls.trust[1]: is the same as apis[0].upstream.tls.trust[0]`}},
	{"upstream-certificate", []string{`14:66: apis[0].upstream.tls.certificate.certificate: is required`}},
	{"upgrade", []string{`16:60: apis[0].routes[0].upgrade[0]: expected websocket, got "h2c"; other protocols would bypass the checks`}},
	{"upgrade-empty", []string{`16:59: apis[0].routes[0].upgrade: an empty list allows nothing; leave it out for a route without upgrades`}},
	{"preflight", []string{`16:61: apis[0].routes[0].preflight: expected allow, got "deny"; leave it out to refuse preflights`}},
	{"preflight-method", []string{`16:61: apis[0].routes[0].preflight: needs the method OPTIONS, which every preflight has`}},
	{"preflight-handshake", []string{`17:70: apis[0].routes[0].preflight: has no effect with listener.client_certificates.on_failure: handshake: browsers send preflights without a certificate`}},
	{"path-encoding", []string{
		`14:42: apis[0].path_encoding[1]: expected allow_encoded_slash, allow_semicolon, allow_encoded_unreserved, allow_non_utf8 or allow_outer_space, got "encoded_slash"`,
		`14:57: apis[0].path_encoding[2]: is the same as apis[0].path_encoding[0]`,
		`15:21: apis[0].trailing_slash: expected exact or optional, got "ignore"`,
	}},
	{"security-events", []string{
		`10:22: authorization_servers[0].security_events.audience: must not be empty`,
		`10:22: authorization_servers[0].security_events: poll or push is required: without them, no event arrives`,
		`17:19: authorization_servers[1].security_events.poll.endpoint: must start with https://: the gate sends its credentials there`,
		`18:25: authorization_servers[1].security_events.poll.authentication.method: tls_client_auth needs the gate's own certificate: connection.certificate`,
		`18:38: authorization_servers[1].security_events.poll.authentication.token_file: is for bearer only`,
		`19:19: authorization_servers[1].security_events.poll.interval: must be from 1s to 1h0m0s, is 1ms`,
		`20:20: authorization_servers[1].security_events.poll.long_poll: must be from 0s to 5m0s, is 1h0m0s`,
		`21:13: authorization_servers[1].security_events.push: needs issuer in the same file: the events arrive at the issuer's listener; use poll without one`,
		`21:13: authorization_servers[1].security_events.push: authorization_file or thumbprints is required: without them, anybody can send events to the endpoint`,
		`21:20: authorization_servers[1].security_events.push.path: must be /security-events/ and a name of letters, digits, - and _`,
		`22:14: authorization_servers[1].security_events.state: the folder "events" is already used by authorization_servers[0].security_events.state on line 10`,
		`23:22: authorization_servers[1].security_events.max_staleness: must be at least 2h0m10s: twice the sum of 5s and the longer of poll.interval and poll.long_poll`,
		`24:19: authorization_servers[1].security_events.when_stale: introspect needs introspection`,
		`29:7: authorization_servers[2].security_events.state: is required`,
		`32:34: authorization_servers[2].security_events.poll.authentication.method: expected tls_client_auth, client_secret_basic or bearer, got "private_key_jwt"`,
		`33:19: authorization_servers[2].security_events.when_stale: expected refuse, introspect or continue, got "accept"`,
		`38:7: authorization_servers[3].security_events.state: is required`,
		`39:13: authorization_servers[3].security_events.poll.endpoint: is required`,
		`39:30: authorization_servers[3].security_events.poll.authentication.token_file: is required`,
	}},
	{"dpop", []string{
		`15:14: apis[0].binding: expected certificate, dpop, either or both, got "dpopp", did you mean "dpop"?`,
		`25:16: dpop.algorithms[0]: expected ES256, ES384, ES512, PS256, PS384, PS512, RS256, RS384, RS512, EdDSA or Ed25519, got "RS348", did you mean "RS384"?`,
		`25:30: dpop.algorithms[2]: is the same as dpop.algorithms[1]`,
		`26:12: dpop.max_age: must be from 1s to 5m0s, is 10m0s`,
		`27:11: dpop.leeway: must be from 0s to 1m0s, is 2m0s`,
		`28:10: dpop.nonce: expected off or required, got "require", did you mean "required"?`,
		`29:11: dpop.proofs: must be at least 1, is 0`,
	}},
	{"dpop-empty", []string{
		`23:20: dpop.algorithms: at least one is required: an empty list accepts no proof`,
		`23:33: dpop.max_age: must be from 1s to 5m0s, is 0s`,
		`23:45: dpop.leeway: must be from 0s to 1m0s, is -1s`,
	}},
	{"path-encoding-unused", []string{`14:20: apis[0].path_encoding: has no effect: no route of the API has {name} or /**`}},
	{"upgrade-twice", []string{`16:71: apis[0].routes[0].upgrade[1]: is the same as apis[0].routes[0].upgrade[0]`}},
	{"body", []string{`16:56: apis[0].routes[0].body: expected allowed, got "maybe"; leave it out to refuse a body on all methods but POST, PUT and PATCH`}},
	{"upgrade-method", []string{`16:60: apis[0].routes[0].upgrade: needs the method GET, which opens every WebSocket`}},
	{"upgrade-h2", []string{`16:59: apis[0].routes[0].upgrade: needs an upstream with protocol http1: HTTP/2 has no upgrades`}},
	{"upstream-timeout", []string{`14:55: apis[0].upstream.timeout: must be from 1ms to 24h0m0s, is 0s`}},
	{"routes-empty", []string{`15:13: apis[0].routes: at least one is required: an empty list offers nothing`}},
	{"route-scopes-empty", []string{`16:58: apis[0].routes[0].scopes: an empty list requires nothing; leave it out for a route that needs no scope`}},
	{"methods-empty", []string{`16:19: apis[0].routes[0].methods: at least one is required: an empty list offers nothing`}},
	{"method-twice", []string{`16:25: apis[0].routes[0].methods[1]: is the same as apis[0].routes[0].methods[0]`}},
	{"route-twice", []string{`17:9: apis[0].routes[1]: GET "/accounts/{number}" on host "api.example.com" is already offered by apis[0].routes[0] on line 16`}},
	{"route-twice-across-apis", []string{`21:9: apis[1].routes[0]: GET "/accounts/{id}" on host "api.example.com" is already offered by apis[0].routes[0] on line 16`}},

	// partners
	{"partner-name-twice", []string{`23:13: partners.list[1].name: the name "northwind" is already used by partners.list[0].name on line 19`}},
	{"partner-name-reserved", []string{`19:13: partners.list[0].name: "unknown" is reserved: metrics use it`}},
	{"partner-no-anchors", []string{`19:7: partners.list[0].trust: is required: listener.client_certificates has neither trust nor self_signed, so this partner could use no certificate`}},
	{"partner-trust-empty", []string{`20:14: partners.list[0].trust: an empty list trusts nothing; leave it out for the listener's anchors`}},
	{"client-twice", []string{`25:22: partners.list[1].applications[0].client_id: the client_id "northwind-ledger" is already used by partners.list[0].applications[0].client_id on line 21`}},
	{"apis-empty", []string{`22:17: partners.list[0].applications[0].apis: at least one is required: an empty list allows nothing`}},
	{"api-dangling", []string{`22:18: partners.list[0].applications[0].apis[0]: there is no API "acounts", did you mean "accounts"?`}},
	{"api-dangling-mapping", []string{`22:18: partners.list[0].applications[0].apis[0]: there is no API "ledgers"`}},
	{"usages-server-alone", []string{
		`23:19: partners.list[0].applications[0].usages: must list client_auth: a certificate that may be used for clients is always accepted`,
		`23:33: partners.list[0].applications[0].usages[1]: is the same as partners.list[0].applications[0].usages[0]`,
	}},
	{"usages-any", []string{`23:19: partners.list[0].applications[0].usages: server_auth needs a registered certificate: every certificate for a server, of any authority that the partner trusts, would be accepted; register thumbprints, or a name and trust of the partner's own`}},
	{"usages-shared", []string{`23:19: partners.list[0].applications[0].usages: server_auth with a name needs trust of the partner's own: the listener's anchors are shared with other partners; register thumbprints alone, or name the partner's anchors`}},
	{"grant-twice", []string{`22:28: partners.list[0].applications[0].apis[1]: is the same as partners.list[0].applications[0].apis[0]`}},
	{"grant-methods-empty", []string{`22:43: partners.list[0].applications[0].apis[0].methods: an empty list allows nothing; leave it out for all that the API offers`}},
	{"grant-method", []string{`22:44: partners.list[0].applications[0].apis[0].methods[0]: no route of "accounts" offers DELETE`}},
	{"names-both", []string{`22:24: partners.list[0].applications[0].certificate: subject_dn and san_dns exclude each other`}},
	{"san-dns", []string{`22:34: partners.list[0].applications[0].certificate.san_dns: is not a DNS name`}},
	{"subject-twice", []string{`27:37: partners.list[1].applications[0].certificate.subject_dn: the name "CN=ledger,O=Northwind" is already used by partners.list[0].applications[0].certificate.subject_dn on line 22`}},
	{"san-twice", []string{`27:34: partners.list[1].applications[0].certificate.san_dns: the name "ledger.example" is already used by partners.list[0].applications[0].certificate.san_dns on line 22`}},
	{"names-three", []string{`22:24: partners.list[0].applications[0].certificate: san_dns, san_uri and san_email exclude each other`}},
	{"san-uri-twice", []string{`27:34: partners.list[1].applications[0].certificate.san_uri: the name "spiffe://example.com/a" is already used by partners.list[0].applications[0].certificate.san_uri on line 22`}},
	{"san-ip-twice", []string{`27:33: partners.list[1].applications[0].certificate.san_ip: the name "2001:db8::1" is already used by partners.list[0].applications[0].certificate.san_ip on line 22`}},
	{"san-email-twice", []string{`27:36: partners.list[1].applications[0].certificate.san_email: the name "ledger@example.com" is already used by partners.list[0].applications[0].certificate.san_email on line 22`}},
	{"thumbprint-twice", []string{`27:39: partners.list[1].applications[0].certificate.thumbprints[0]: the thumbprint "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0" is already used by partners.list[0].applications[0].certificate.thumbprints[0] on line 22`}},
	{"certificate-empty", []string{`22:24: partners.list[0].applications[0].certificate: registers nothing; leave it out to accept every certificate of the partner`}},
	{"name-without-anchor", []string{`22:24: partners.list[0].applications[0].certificate: a name needs certificates that chain to an anchor, and this partner has no anchor; list thumbprints`}},

	// The authentication of applications at our own issuer, and the settings of their tokens.
	{"tls-nameless", []string{`24:11: partners.list[0].applications[0].certificate: tls_client_auth at our own issuer needs a name: subject_dn, san_dns, san_uri, san_ip or san_email (RFC 8705 section 2.1.2)`}},
	{"tls-nameless-explicit", []string{`24:11: partners.list[0].applications[0].certificate: tls_client_auth at our own issuer needs a name: subject_dn, san_dns, san_uri, san_ip or san_email (RFC 8705 section 2.1.2)`}},
	{"tls-nameless-pinned", []string{`25:24: partners.list[0].applications[0].certificate: tls_client_auth at our own issuer needs a name: subject_dn, san_dns, san_uri, san_ip or san_email (RFC 8705 section 2.1.2)`}},
	{"tls-without-anchor", []string{`25:24: partners.list[0].applications[0].certificate: tls_client_auth at our own issuer needs a certificate that chains to an anchor, and this partner has no anchor`}},
	{"tls-keys", []string{`22:17: partners.list[0].applications[0].keys: is for self_signed_tls_client_auth only`}},
	{"tls-keys-trust", []string{`22:17: partners.list[0].applications[0].keys: is for self_signed_tls_client_auth only`}},
	{"self-signed-off", []string{`22:27: partners.list[0].applications[0].authentication: needs listener.client_certificates.self_signed: true, or the handshake refuses such certificates`}},
	{"self-signed-named", []string{`24:24: partners.list[0].applications[0].certificate: san_dns is for tls_client_auth only; register the certificates themselves`}},
	{"self-signed-nothing", []string{`22:11: partners.list[0].applications[0]: self_signed_tls_client_auth needs registered certificates: keys.certificates, keys.jwks, keys.jwks_uri or certificate.thumbprints`}},
	{"self-signed-two-sources", []string{`22:11: partners.list[0].applications[0]: keys.certificates and certificate.thumbprints exclude each other`}},
	{"self-signed-three-sources", []string{
		`22:11: partners.list[0].applications[0]: keys.certificates, keys.jwks and keys.jwks_uri exclude each other`,
		`24:47: partners.list[0].applications[0].keys.jwks: expected a JWK Set as JSON text, an object with a list of keys (RFC 7517 section 5)`,
	}},
	{"keys-certificates-empty", []string{`24:32: partners.list[0].applications[0].keys.certificates: an empty list registers nothing`}},
	{"keys-certificates-twice", []string{`24:40: partners.list[0].applications[0].keys.certificates[1]: is the same as partners.list[0].applications[0].keys.certificates[0]`}},
	{"keys-jwks-no-json", []string{`24:24: partners.list[0].applications[0].keys.jwks: expected a JWK Set as JSON text, an object with a list of keys (RFC 7517 section 5)`}},
	{"keys-jwks-no-keys", []string{`24:24: partners.list[0].applications[0].keys.jwks: expected a JWK Set as JSON text, an object with a list of keys (RFC 7517 section 5)`}},
	{"keys-jwks-no-certificate", []string{`24:24: partners.list[0].applications[0].keys.jwks: key 2 has no certificate in x5c (RFC 8705 section 2.2.2)`}},
	{"keys-jwks-uri-http", []string{`24:28: partners.list[0].applications[0].keys.jwks_uri: must start with https://: a changed key set authenticates another client`}},
	{"keys-trust-empty", []string{
		`24:28: partners.list[0].applications[0].keys.jwks_uri: is fetched only by our own issuer, and no issuer is configured; register the certificates themselves`,
		`24:61: partners.list[0].applications[0].keys.trust: an empty list trusts nothing; leave it out for the system's anchors`,
	}},
	{"keys-trust-unused", []string{`24:48: partners.list[0].applications[0].keys.trust: has no effect without jwks_uri`}},
	{"require-bound", []string{`26:25: partners.list[0].applications[0].bound_tokens: must not be false: issuer.require_bound on line 33 is true`}},
	{"app-token-lifetime", []string{`26:27: partners.list[0].applications[0].token_lifetime: must be from 1s to 1h0m0s, is 2h0m0s`}},
	{"rate-limit-burst", []string{`23:23: partners.list[0].applications[0].rate_limit.burst: must be at least 1, is 0`}},
	{"rate-limit-null", []string{`23:22: partners.list[0].applications[0].rate_limit: expected a mapping, got nothing`}},
	{"rate-limit-zero", []string{
		`23:45: partners.list[0].applications[0].rate_limit.requests_per_second: must be at least 1, is 0`,
		`23:55: partners.list[0].applications[0].rate_limit.burst: must be at least 1, is -1`,
	}},
	{"app-token-lifetime-short", []string{`26:27: partners.list[0].applications[0].token_lifetime: must be from 1s to 1h0m0s, is -1s`}},
	{"scope-twice", []string{`22:35: partners.list[0].applications[0].scopes[1]: is the same as partners.list[0].applications[0].scopes[0]`}},
	{"default-scopes", []string{`23:28: partners.list[0].applications[0].default_scopes[0]: "account:read" is not among the scopes of the application, did you mean "accounts:read"?`}},
	{"default-scopes-twice", []string{`23:43: partners.list[0].applications[0].default_scopes[1]: is the same as partners.list[0].applications[0].default_scopes[0]`}},
	{"app-resources-empty", []string{`26:22: partners.list[0].applications[0].resources: an empty list allows nothing; leave it out for all that the issuer knows`}},
	{"app-resource-unknown", []string{`26:23: partners.list[0].applications[0].resources[0]: is not in issuer.audience, issuer.resources or the resources of issuer.resource_servers, did you mean "https://api.example.com"?`}},
	{"app-resource-twice", []string{`26:50: partners.list[0].applications[0].resources[1]: is the same as partners.list[0].applications[0].resources[0]`}},
	{"claim-empty", []string{`22:20: partners.list[0].applications[0].claims[0].name: is required`}},
	{"claim-twice", []string{`22:53: partners.list[0].applications[0].claims[1].name: the claim "tenant" is already used by partners.list[0].applications[0].claims[0].name on line 22`}},
	{"claim-reserved", []string{`22:27: partners.list[0].applications[0].claims[0].name: "cnf" is reserved: only the issuer may set it`}},
	{"claim-acting", []string{
		`23:22: partners.list[0].applications[0].claims[0].name: "act" is reserved: only the issuer may set it`,
		`24:22: partners.list[0].applications[0].claims[1].name: "May_Act" is reserved: only the issuer may set it`,
		`25:22: partners.list[0].applications[0].claims[2].name: "username" is reserved: only the issuer may set it`,
		`26:22: partners.list[0].applications[0].claims[3].name: "sub_id" is reserved: only the issuer may set it`,
		`27:22: partners.list[0].applications[0].claims[4].name: "azp" is reserved: only the issuer may set it`,
	}},
	{"claim-counting", []string{
		`23:22: partners.list[0].applications[0].claims[0].name: "active" is reserved: only the issuer may set it`,
		`24:22: partners.list[0].applications[0].claims[1].name: "token_introspection" is reserved: only the issuer may set it`,
		`25:22: partners.list[0].applications[0].claims[2].name: "exi" is reserved: only the issuer may set it`,
		`26:22: partners.list[0].applications[0].claims[3].name: "at_use_nbr" is reserved: only the issuer may set it`,
		`27:22: partners.list[0].applications[0].claims[4].name: "status" is reserved: only the issuer may set it`,
	}},

	// identity_headers
	{"header-prefix-empty", []string{`23:28: identity_headers.prefix: must not be empty`}},
	{"header-prefix-hyphen", []string{`23:28: identity_headers.prefix: must end in a hyphen`}},
	{"header-prefix-taking", []string{`23:28: identity_headers.prefix: would remove If-Match out of every request`}},
	{"header-outside-prefix", []string{`23:29: identity_headers.partner: must begin with the prefix "Tallygate-" and be longer`}},
	{"header-is-prefix", []string{`23:29: identity_headers.partner: must begin with the prefix "Tallygate-" and be longer`}},
	{"header-twice", []string{`23:19: identity_headers.subject: the header "Tallygate-Subject" is already used by identity_headers.partner on line 23`}},
	{"header-certificate", []string{`23:33: identity_headers.certificate: must be Client-Cert (RFC 9440 section 2.2), or empty to send none`}},

	// issuer
	{"issuer-dangling", []string{`24:11: issuer.issuer: no entry of authorization_servers has this issuer: its tokens would be refused`}},
	{"issuer-required", []string{
		`27:3: issuer.address: is required`,
		`27:3: issuer.state: is required`,
		`27:3: issuer.audience: must not be empty`,
	}},
	{"issuer-certificate", []string{`31:24: issuer.certificate.files.key: is required`}},
	{"issuer-lifetime", []string{`31:19: issuer.token_lifetime: must be from 1s to 1h0m0s, is 48h0m0s`}},
	{"alias-required", []string{
		`31:15: issuer.mtls_alias.address: is required`,
		`31:15: issuer.mtls_alias.url: is required`,
	}},
	{"alias-http", []string{`31:21: issuer.mtls_alias.url: must start with https://: clients authenticate there by a certificate`}},
	{"alias-path", []string{`31:21: issuer.mtls_alias.url: must have no path and no query: the endpoints have the same paths as at the issuer`}},
	{"alias-query", []string{`31:21: issuer.mtls_alias.url: must have no path and no query: the endpoints have the same paths as at the issuer`}},
	{"alias-address", []string{`31:54: issuer.mtls_alias.address: "127.0.0.1:9443" takes the port that issuer.address has at ":9443"`}},
	{"signing-algorithm", []string{`31:24: issuer.signing.algorithm: expected ES256, PS256, RS256 or EdDSA, got "ES384"`}},
	{"signing-refused", []string{`31:24: issuer.signing.algorithm: RS256 is not among authorization_servers[1].algorithms on line 11: the tokens would be refused`}},
	{"signing-refused-line", []string{`32:24: issuer.signing.algorithm: EdDSA is not among authorization_servers[1].algorithms on line 14: the tokens would be refused`}},
	{"signing-rotate", []string{`31:21: issuer.signing.rotate: must be from 1h0m0s to 8784h0m0s, is 30m0s`}},
	{"signing-rotate-long", []string{`31:21: issuer.signing.rotate: must be from 1h0m0s to 8784h0m0s, is 8785h0m0s`}},
	{"signing-files-empty", []string{`31:20: issuer.signing.files: an empty list signs nothing; leave it out for keys of the issuer's own`}},
	{"signing-files-twice", []string{`31:28: issuer.signing.files[1]: is the same as issuer.signing.files[0]`}},
	{"signing-files-rotate", []string{`31:37: issuer.signing.rotate: has no effect: files on line 31 replaces the issuer's own keys`}},
	{"max-token-lifetime", []string{`31:23: issuer.max_token_lifetime: must be from 1s to 24h0m0s, is 25h0m0s`}},
	{"token-lifetime-above", []string{`27:3: issuer.token_lifetime: must be from 1s to 1m0s, is 5m0s`}},
	{"resource-fragment", []string{
		`31:15: issuer.resources[0]: expected issuer.audience or an absolute URI without fragment (RFC 8707 section 2)`,
		`31:44: issuer.resources[1]: expected issuer.audience or an absolute URI without fragment (RFC 8707 section 2)`,
	}},
	{"resource-twice", []string{`31:41: issuer.resources[1]: is the same as issuer.resources[0]`}},
	// issuer.database
	{"database-both", []string{`31:13: issuer.database: excludes state on line 30: the state is in a folder or in a database`}},
	{"database-mode", []string{`30:110: issuer.database.insecure_sslmode: expected require or disable, got "prefer"`}},
	{"database-password-parameter", []string{`30:19: issuer.database.url: must have no password: write the password into a file, and name the file in password_file`}},
	{"database-password", []string{`30:19: issuer.database.url: must have no password: write the password into a file, and name the file in password_file`}},
	{"database-required", []string{
		`30:13: issuer.database.url: is required`,
		`30:13: issuer.database.encryption_keys: at least one is required: the signing keys in the database must be encrypted`,
	}},
	{"database-socket", []string{
		`30:19: issuer.database.url: names a Unix socket, to which no TLS is spoken: leave out trust and insecure_sslmode`,
		`30:100: issuer.database.encryption_keys[1]: is the same as issuer.database.encryption_keys[0]`,
	}},
	{"database-sslmode", []string{`30:19: issuer.database.url: must have no parameter except host=/folder: the other settings of database take the place of parameters`}},
	{"database-trust-empty", []string{`30:99: issuer.database.trust: an empty list trusts nothing; leave it out for the anchors of the system`}},
	{"database-trust", []string{`30:110: issuer.database.insecure_sslmode: makes trust on line 30 useless: the certificate of the server is not checked`}},
	{"database-url", []string{`30:19: issuer.database.url: expected postgres://user@host:port/database, with several hosts separated by commas, or postgres://user@/database?host=/folder`}},
	{"database-user", []string{`30:19: issuer.database.url: expected postgres://user@host:port/database, with several hosts separated by commas, or postgres://user@/database?host=/folder`}},

	{"issuer-limits", []string{
		`31:46: issuer.limits.per_client.requests_per_second: must be at least 1, is 0`,
		`31:56: issuer.limits.per_client.burst: must be at least 1, is 0`,
		`31:95: issuer.limits.per_address.requests_per_second: must be at least 1, is -1`,
		`31:106: issuer.limits.per_address.burst: must be at least 1, is 0`,
	}},

	// issuer.resource_servers
	{"rs-required", []string{
		`32:7: issuer.resource_servers[0].resources: at least one is required: a resource server may introspect only tokens for its resources`,
		`33:7: issuer.resource_servers[1].client_id: is required`,
	}},
	{"rs-client-twice", []string{`32:19: issuer.resource_servers[0].client_id: the client_id "northwind-ledger" is already used by partners.list[0].applications[0].client_id on line 24`}},
	{"rs-name-twice", []string{`33:45: issuer.resource_servers[1].certificate.san_dns: the name "a.example" is already used by issuer.resource_servers[0].certificate.san_dns on line 32`}},
	{"rs-nameless", []string{`32:7: issuer.resource_servers[0].certificate: tls_client_auth at our own issuer needs a name: subject_dn, san_dns, san_uri, san_ip or san_email (RFC 8705 section 2.1.2)`}},
	{"rs-names-both", []string{`32:35: issuer.resource_servers[0].certificate: san_dns and san_ip exclude each other`}},
	{"rs-thumbprints", []string{`32:69: issuer.resource_servers[0].certificate.thumbprints: is for self_signed_tls_client_auth only`}},
	{"rs-keys", []string{`32:63: issuer.resource_servers[0].keys: is for self_signed_tls_client_auth only`}},
	{"rs-self-signed-off", []string{`32:38: issuer.resource_servers[0].authentication: needs listener.client_certificates.self_signed: true, or the handshake refuses such certificates`}},
	{"rs-trust-empty", []string{`32:29: issuer.resource_servers[0].trust: an empty list trusts nothing; leave it out for the listener's anchors`}},
	{"rs-no-anchors", []string{`32:7: issuer.resource_servers[0].trust: is required: listener.client_certificates has no trust to fall back on`}},
	{"rs-resource", []string{`32:69: issuer.resource_servers[0].resources[0]: expected issuer.audience or an absolute URI without fragment (RFC 8707 section 2)`}},

	// issuer.operators
	{"op-required", []string{
		`32:7: issuer.operators[0].name: is required`,
		`32:7: issuer.operators[0].trust: at least one is required: there is no default, because the authority of a partner must not certify an operator`,
		`32:7: issuer.operators[0].certificate: a name or thumbprints are required, or every certificate under trust would be this operator's`,
		`32:7: issuer.operators[0].permissions: at least one is required: an operator without permissions may do nothing`,
		`33:47: issuer.operators[1].certificate: a name or thumbprints are required, or every certificate under trust would be this operator's`,
		`33:64: issuer.operators[1].permissions: at least one is required: an operator without permissions may do nothing`,
	}},
	{"op-twice", []string{
		`33:14: issuer.operators[1].name: the name "a" is already used by issuer.operators[0].name on line 32`,
		`33:57: issuer.operators[1].certificate.san_dns: the name "a.example" is already used by issuer.operators[0].certificate.san_dns on line 32`,
		`33:89: issuer.operators[1].permissions[1]: is the same as issuer.operators[1].permissions[0]`,
	}},
	{"op-trust-empty", []string{`32:24: issuer.operators[0].trust: at least one is required: there is no default, because the authority of a partner must not certify an operator`}},
	{"op-names", []string{
		`32:47: issuer.operators[0].certificate: san_dns and san_ip exclude each other`,
		`33:47: issuer.operators[1].certificate: san_dns and thumbprints exclude each other`,
	}},
	{"op-permission", []string{`32:83: issuer.operators[0].permissions[0]: expected revoke or read, got "rotate"`}},

	// issuer.governance
	{"rule-required", []string{
		`35:9: issuer.governance.workspace[0].name: is required`,
		`35:9: issuer.governance.workspace[0].when: is required`,
	}},
	{"rule-nothing", []string{`35:9: issuer.governance.workspace[0]: does nothing: refuse or lifetime is required`}},
	{"rule-both", []string{`35:9: issuer.governance.workspace[0]: refuse and lifetime exclude each other`}},
	{"rule-lifetime", []string{
		`35:43: issuer.governance.workspace[0].lifetime: must be from 1s to 1h0m0s, is 2h0m0s`,
		`36:43: issuer.governance.workspace[1].lifetime: must be from 1s to 1h0m0s, is 500ms`,
	}},
	{"rule-application", []string{
		`35:60: issuer.governance.application[0].client_id: there is no application "northwind-leger", did you mean "northwind-ledger"?`,
		`36:9: issuer.governance.application[1].when: is required`,
		`36:9: issuer.governance.application[1].client_id: is required`,
	}},
	{"rule-scope", []string{
		`35:52: issuer.governance.scope[0].scope: no application has the scope "account:read", did you mean "accounts:read"?`,
		`36:9: issuer.governance.scope[1].when: is required`,
		`36:9: issuer.governance.scope[1]: refuse, drop and lifetime exclude each other`,
		`36:9: issuer.governance.scope[1].scope: is required`,
		`37:9: issuer.governance.scope[2]: does nothing: refuse, drop or lifetime is required`,
	}},
	{"rule-claims", []string{
		`35:9: issuer.governance.claims[0].claim: is required`,
		`35:9: issuer.governance.claims[0].value: is required`,
		`36:26: issuer.governance.claims[1].claim: "iss" is reserved: only the issuer may set it`,
		`37:26: issuer.governance.claims[2].claim: "may_act" is reserved: only the issuer may set it`,
		`38:26: issuer.governance.claims[3].claim: "token_introspection" is reserved: only the issuer may set it`,
	}},
	{"rule-name-twice", []string{`33:21: issuer.governance.claims[0].name: the name "a" is already used by issuer.governance.workspace[0].name on line 32`}},

	// All faults in one answer, in the order of the file.
	{"five-faults", []string{
		`9:16: authorization_servers[0].audiences: expected a list, got text: write a list of one value as [value]`,
		`10:13: authorization_servers[0].leeway: expected a duration with its unit, such as 30s, got "10 minutes"`,
		`14:5: apis[0]: unknown key "host", did you mean "hosts"?`,
		`23:18: partners.list[0].applications[0].apis[0]: there is no API "acounts", did you mean "accounts"?`,
		`24:18: admin.address: ":8443" takes the port that listener.address has at ":8443"`,
	}},

	// A fault that only follows from another fault is not reported: the rest of these files refers to the
	// faulty value.
	{"api-name-unread", []string{`12:11: apis[0].name: a name is 1 to 64 letters, digits, dots, underscores and hyphens, first a letter or digit`}},
	{"routes-unread", []string{`16:19: apis[0].routes[0].methods: expected a list, got text: write a list of one value as [value]`}},
	{"issuer-unread", []string{`8:13: authorization_servers[0].issuer: expected an absolute URL, such as https://api.example.com`}},
	{"own-issuer-unread", []string{`27:3: issuer: unknown key "isuer", did you mean "issuer"?`}},
	{"key-set-unread", []string{`10:20: authorization_servers[0].key_set.url: expected an absolute URL, such as https://api.example.com`}},
	{"certificate-unread", []string{`22:25: partners.list[0].applications[0].certificate: unknown key "san_dn", did you mean "san_dns"?`}},
	{"keys-unread", []string{`24:28: partners.list[0].applications[0].keys.jwks_uri: expected an absolute URL, such as https://api.example.com`}},
	{"self-signed-unread", []string{`5:18: listener.client_certificates.self_signed: expected true or false, got "yes, please"`}},
	{"token-lifetime-unread", []string{`31:23: issuer.max_token_lifetime: expected a duration with its unit, such as 30s, got "long"`}},
	{"default-scopes-unread", []string{`22:19: partners.list[0].applications[0].scopes: expected a list, got text: write a list of one value as [value]`}},
	{"resources-unread", []string{`33:14: issuer.resources: expected a list, got text: write a list of one value as [value]`}},
	{"rule-client-unread", []string{`24:22: partners.list[0].applications[0].client_id: a client identifier is 1 to 128 printable ASCII characters without spaces`}},
	{"rule-effect-unread", []string{`35:43: issuer.governance.workspace[0].lifetime: expected a duration with its unit, such as 30s, got "soon"`}},
	{"trust-unread", []string{`5:12: listener.client_certificates.trust: expected a list, got text: write a list of one value as [value]`}},
}

// A faulty file is refused with the position and text of each fault, and without further faults
// (every rule, among them T-CFG-04, T-HDR-16, T-DN-07, T-PATH-15, T-PATH-18).
func TestBad(t *testing.T) {
	listed := make(map[string]bool)
	for _, tt := range bad {
		file := "bad-" + tt.rule + ".yaml"
		listed[file] = true
		t.Run(tt.rule, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(file, "", text)
			if c != nil {
				t.Error("Parse returned a configuration with its error, want nil")
			}
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("Parse error = %v, want Faults", err)
			}
			want := file + ":" + strings.Join(tt.faults, "\n"+file+":")
			if diff := cmp.Diff(want, faults.Error()); diff != "" {
				t.Errorf("Parse faults (-want +got):\n%s", diff)
			}
		})
	}
	for _, file := range testdata(t, "bad-*.yaml") {
		if !listed[filepath.Base(file)] {
			t.Errorf("%s is not in the table", file)
		}
	}
}

// An application with any setting for tokens of our own issuer needs a name. An application
// without such a setting is no client of the issuer.
func TestAsksForTokens(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "bad-tls-nameless.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const indent, asks = "\n          ", "scopes: [accounts:read]"
	if _, err := Parse("file.yaml", "", []byte(strings.Replace(string(text), indent+asks, indent+"certificate: {thumbprints: [A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0]}", 1))); err != nil {
		t.Errorf("Parse without a setting for tokens: %v, want no error", err)
	}
	for _, line := range []string{
		asks, "authentication: tls_client_auth", "default_scopes: []", `resources: ["https://api.example.com"]`, "bound_tokens: true",
		"token_format: jwt", "token_lifetime: 1m", "claims: [{name: a, value: b}]",
	} {
		faults := faultsOf(t, strings.Replace(string(text), indent+asks, indent+line, 1))
		if len(faults) != 1 || faults[0].Message != needsName {
			t.Errorf("Parse with %s: got %v, want the fault %q", line, faults, needsName)
		}
	}
}

// testdata returns the files that match pattern, and fails the test without any.
func testdata(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob(%s) found no files: %v", pattern, err)
	}
	return files
}
