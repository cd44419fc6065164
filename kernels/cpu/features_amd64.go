//go:build !noasm

package cpu

import (
	"slices"

	"golang.org/x/sys/cpu"
)

// requirement is what one path, or one way to multiply bf16, needs.
type requirement struct {
	name     string
	features []string
}

// vectorNeeds are of the paths of vectorPaths, in its order.
var vectorNeeds = []requirement{
	{avx512Path.name, []string{"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX2", "BMI2"}},
	{avx2Path.name, []string{"AVX2", "FMA", "BMI2"}},
}

func features() []feature {
	x := &cpu.X86
	return []feature{
		{"AVX2", x.HasAVX2}, {"FMA", x.HasFMA}, {"BMI2", x.HasBMI2},
		{"AVX512F", x.HasAVX512F}, {"AVX512DQ", x.HasAVX512DQ}, {"AVX512VL", x.HasAVX512VL}, {"AVX512BW", x.HasAVX512BW},
		{"AVX512_VNNI", x.HasAVX512VNNI}, {"AVX512_BF16", x.HasAVX512BF16}, {"AMX_TILE", x.HasAMXTile}, {"AMX_BF16", x.HasAMXBF16},
	}
}

// choice says what this processor lacks.
func (n requirement) choice() Choice {
	c := Choice{Path: n.name, Needs: n.features}
	found := Features()
	for _, name := range n.features {
		if !slices.Contains(found, name) {
			c.Missing = append(c.Missing, name)
		}
	}
	return c
}

func vectorChoices() []Choice {
	var choices []Choice
	for _, n := range vectorNeeds {
		choices = append(choices, n.choice())
	}
	return choices
}
