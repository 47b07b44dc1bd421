package certname_test

import (
	"fmt"

	"github.com/tallygate/tallygate/internal/certname"
)

func ExampleParseDN() {
	dn, err := certname.ParseDN(`cn=Ledger, 2.5.4.10=Acme\2C Inc., C=DE`)
	fmt.Println(dn, err)
	// Output: CN=Ledger,O=Acme\, Inc.,C=DE <nil>
}
