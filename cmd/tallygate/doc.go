// Command tallygate is a gate in front of partner APIs. It terminates mutual TLS and forwards a
// request only if the access token is bound to the client certificate (RFC 8705), the token is valid
// and the partner's application may call the API. The program includes a minimal authorization
// server that issues such tokens.
//
// # Commands
//
//	tallygate serve             run the gate, and the issuer if configured
//	tallygate drain             take a running gate out of service; it still serves
//	tallygate healthcheck       check whether a running gate is ready
//	tallygate check             validate a configuration file
//	tallygate schema            print the JSON Schema of the configuration, for editors
//	tallygate configure-server  propose the configuration for an authorization server
//	tallygate explain           explain how the gate would decide a request, check by check
//	tallygate demo              see the gate at work on loopback without preparation
//	tallygate init              write a first configuration with test certificates into a folder
//	tallygate inject            add the gate to the pods of Kubernetes manifests
//	tallygate uninject          remove it again
//	tallygate revoke            revoke tokens of the issuer
//	tallygate keys              list and rotate the issuer's signing keys
//	tallygate token             fetch an access token with mutual TLS
//	tallygate thumbprint        print the x5t#S256 of certificates
//	tallygate version           print the version and the build
//	tallygate completion        print a completion script for bash, zsh, fish or powershell
//
// Each command has --help with its flags and examples.
//
// # Streams
//
// Data goes to standard output, messages to standard error. The log of serve is JSON on standard
// error. With -o json, the output of a command is one JSON value.
//
// # Exit codes
//
//	0  done
//	1  failed: a file, the network or a server
//	2  wrong usage: unknown command, flag or argument
//	3  invalid configuration; each fault is printed on a line as file:line:column
//	4  refused: by the authorization server, or by the decision that explain shows; or check --bypass
//	   found an open address
//
// # Signals
//
// SIGTERM and SIGINT stop a program in order. SIGINT, for people at a terminal, skips the delay for
// load balancers. A second signal ends the program at once. SIGHUP makes serve reload its
// configuration, SIGUSR1 makes it drain.
package main
