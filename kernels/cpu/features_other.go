//go:build !amd64 || noasm

package cpu

import "runtime"

func features() []feature { return nil }

// vectorChoices names the assembly of the architecture, which a build may leave out.
func vectorChoices() []Choice {
	if builtWithAssembly { // of arm64, where every processor has it
		return []Choice{{Path: "NEON"}}
	}
	built := []string{"a build without the tag noasm"}
	switch runtime.GOARCH {
	case "amd64":
		return []Choice{{"AVX-512", built, built}, {"AVX2", built, built}}
	case "arm64":
		return []Choice{{"NEON", built, built}}
	}
	return nil
}
