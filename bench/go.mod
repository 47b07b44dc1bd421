// The benchmark beside other proxies, a module of its own: the product's build, lint and
// dependencies do not need it.
module github.com/tallygate/tallygate/bench

go 1.26.6

require (
	github.com/tallygate/tallygate v0.0.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.50.0
)

replace github.com/tallygate/tallygate => ../
