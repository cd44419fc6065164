//go:build !amd64 || noasm

package cpu

// halves returns the ways to multiply bf16 values that this machine has: none.
func halves() []*half { return nil }

func halfChoices() []Choice { return nil }
