// Command tallygate is a gate in front of partner APIs: it terminates mutual TLS
// and lets a request through only when the access token and the client certificate
// belong together (RFC 8705), the token is valid and the partner's application may
// call that API. A minimal authorization server that issues such tokens is in the
// same program.
//
// # Commands
//
//	tallygate serve        run the gate, and the issuer where one is configured;
//	                       also what tallygate does when no command is named
//	tallygate drain        take a running gate out of service, as far as it still serves
//	tallygate healthcheck  ask a running gate whether it is ready
//	tallygate check        load and validate the configuration, and do nothing else
//	tallygate explain      tell what a request would get, gate by gate, and why
//	tallygate demo         show the whole of it on loopback, without preparation
//	tallygate token        fetch an access token by mutual TLS
//	tallygate thumbprint   print the x5t#S256 of certificates
//	tallygate version      print what this program was built from
//	tallygate completion   print a completion script for bash, zsh, fish or powershell
//
// Each command explains its flags and gives examples with --help.
//
// # Streams
//
// Data goes to standard output and words to standard error: what a command was
// asked for can be piped on, and what it has to say about it is still seen. The log
// of serve is JSON on standard error. Where a command takes -o json, its data is one
// JSON value.
//
// # Exit codes
//
//	0  done
//	1  failed: a file, the network or a server
//	2  called in a wrong way: unknown command, flag or argument
//	3  the configuration is invalid; each fault is on a line of its own, as file:line:column
//	4  refused: the authorization server, or the gate that was asked to explain, said no
//
// # Signals
//
// SIGTERM and SIGINT ask for an orderly stop; SIGINT, which a person sends, without the
// delay that gives load balancers time. A second one ends the program at once. SIGHUP lets
// serve read its configuration again, SIGUSR1 lets it drain.
package main
