package config

import (
	"log/slog"
	"net/url"
	"time"
)

// Default returns a new configuration with all defaults. When a file is decoded over it, the values
// of the file replace the defaults, including explicit zeros. setDefaults has the defaults of list
// elements and of optional sections.
func Default() *Config {
	return &Config{
		Listener: Listener{
			Address:        ":8443",
			MinimumVersion: TLS12,
			ClientCertificates: ClientCertificates{
				From:       FromTLS,
				OnFailure:  Respond,
				Revocation: Revocation{Refresh: 10 * time.Minute, WhenStale: RefuseStale},
			},
			Limits: Limits{
				HeaderBytes: 32 << 10,
				BodyBytes:   10 << 20,
				Connections: 10_000,
				// A tenth of Connections, so that clients need ten addresses to use up all
				// connections.
				ConnectionsPerAddress: 1_000,
				// On average one request for each connection, although HTTP/2 allows 128 requests on
				// each.
				Requests:         10_000,
				HandshakeTimeout: 10 * time.Second,
				HeaderTimeout:    10 * time.Second,
				StallTimeout:     30 * time.Second,
				IdleTimeout:      2 * time.Minute,
			},
		},
		DPoP: DPoP{
			Algorithms: []Algorithm{ES256, PS256, EdDSA},
			MaxAge:     time.Minute,
			Leeway:     5 * time.Second,
			Nonce:      NonceOff,
			// 200,000 proofs are 3,000 a second for 65 s, the sum of max_age and leeway. At 130 bytes
			// for each proof they take 25 MiB.
			Proofs: 200_000,
		},
		IdentityHeaders: IdentityHeaders{
			Prefix:     "Tallygate-",
			Partner:    "Tallygate-Partner",
			ClientID:   "Tallygate-Client-Id",
			Scopes:     "Tallygate-Scopes",
			Subject:    "Tallygate-Subject",
			Thumbprint: "Tallygate-Thumbprint",
			Assertion:  "Tallygate-Assertion",
		},
		// The address is loopback, so that only an explicit setting opens probes and metrics to the
		// network.
		Admin: Admin{Address: "127.0.0.1:9090"},
		// By default Kubernetes kills a pod 30 s after it began to stop the pod. Delay and Timeout
		// are 5 s + 20 s, so 5 s remain.
		Drain: Drain{Delay: 5 * time.Second, Timeout: 20 * time.Second},
		Log:   Log{Level: LogLevel(slog.LevelInfo), Granted: LogSample, Paths: LogUnmatchedPaths},

		Correlation: Correlation{RequestID: NewRequestID},
	}
}

// setDefaults sets the defaults of the struct that v points to, if the type of the struct occurs in a
// list or in an optional section. The decoder calls setDefaults before it decodes the struct.
func setDefaults(v any) {
	switch v := v.(type) {
	case *AuthorizationServer:
		*v = defaultServer()
	case *Introspection:
		*v = defaultIntrospection()
	case *SecurityEvents:
		*v = defaultSecurityEvents()
	case *SecurityEventsPoll:
		*v = defaultSecurityEventsPoll()
	case *ACME:
		*v = defaultACME()
	case *API:
		// Requests is 256, because the gate keeps up to 256 idle connections to an upstream.
		// IdleTimeout is below the 5 s after which Node.js and Apache httpd close an idle connection.
		*v = API{Binding: BoundToCertificate, TrailingSlash: ExactSlash, Upstream: Upstream{
			Timeout: 30 * time.Second, IdleTimeout: 4 * time.Second, Protocol: HTTP1, Requests: 256,
		}}
	case *Partner:
		*v = Partner{TraceContext: NewTraceContext}
	case *Application:
		*v = Application{Authentication: TLSClientAuth, BoundTokens: true, TokenFormat: JWT}
	case *Console:
		*v = Console{Address: "127.0.0.1:9091"}
	case *Issuer:
		*v = Issuer{
			TokenLifetime:    5 * time.Minute,
			MaxTokenLifetime: time.Hour,
			Signing:          Signing{Algorithm: ES256, Rotate: 30 * 24 * time.Hour},
			Limits: IssuerLimits{
				PerClient:  Rate{RequestsPerSecond: 50, Burst: 100},
				PerAddress: Rate{RequestsPerSecond: 100, Burst: 200},
			},
		}
	case *Revocations:
		*v = Revocations{MaxStaleness: 30 * time.Second, WhenStale: RefuseRevocationsStale}
	case *ResourceServer:
		*v = ResourceServer{Authentication: TLSClientAuth}
	}
}

// defaultServer does not set defaults that depend on the profile. applyProfiles sets them once the
// profile is known.
func defaultServer() AuthorizationServer {
	return AuthorizationServer{
		Required:     true,
		Tokens:       JWTOnly,
		Profile:      ProfileRFC9068,
		SubjectClaim: "sub",
		Leeway:       30 * time.Second,
		KeySet:       KeySet{Refresh: 5 * time.Minute, CoolDown: 10 * time.Second, MaxStale: 24 * time.Hour},
		Cache:        Cache{Entries: 100_000},
	}
}

func defaultIntrospection() Introspection {
	return Introspection{
		Authentication: IntrospectionAuthentication{Method: MethodTLS},
		Timeout:        2 * time.Second,
		Concurrency:    64,
		Cache: IntrospectionCache{
			Entries: 100_000, MaxAge: time.Minute,
			InactiveEntries: 10_000, InactiveMaxAge: 5 * time.Second,
		},
	}
}

func defaultACME() ACME {
	return ACME{Directory: &URL{url.URL{Scheme: "https", Host: "acme-v02.api.letsencrypt.org", Path: "/directory"}}}
}
