//go:build !amd64 || noasm

package kernels

import "runtime"

func features() []feature { return nil }

// vectorChoices names the assembly that a build leaves out.
func vectorChoices() []Choice {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	built := []string{"a build without the tag noasm"}
	return []Choice{{"AVX-512", built, built}, {"AVX2", built, built}}
}
