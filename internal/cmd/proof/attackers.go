//go:build linux

package main

import "context"

// attackers are the tests that become other users of this computer, for which they
// need root, and say so else.
func attackers(ctx context.Context, o options, tell progress) ([]row, error) {
	return byTests("-tags", "attackers", "-timeout", "10m", "./internal/attackers")(ctx, o, tell)
}
