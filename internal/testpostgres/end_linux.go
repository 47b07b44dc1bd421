package testpostgres

import "syscall"

// endWithTest makes a process end when the test binary ends, killed by its timeout too.
func endWithTest(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGQUIT }
