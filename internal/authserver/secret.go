package authserver

import (
	"bytes"
	"fmt"
	"os"

	"github.com/tallygate/tallygate/config"
)

// maxSecretFile bounds a file with a secret in bytes; tokens and keys have a few KB.
const maxSecretFile = 64 << 10

// ReadSecret returns the single line in a file with a secret.
func ReadSecret(file config.Path) (string, error) {
	content, err := os.ReadFile(string(file))
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	secret := bytes.TrimSpace(content)
	if len(secret) == 0 || len(content) > maxSecretFile || bytes.ContainsAny(secret, "\r\n\x00") {
		return "", fmt.Errorf("reading secret %q: expected one line", file)
	}
	return string(secret), nil
}
