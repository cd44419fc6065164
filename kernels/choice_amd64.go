//go:build !noasm

package kernels

import (
	"slices"

	"golang.org/x/sys/cpu"
)

// requirement is what the assembly of one path needs.
type requirement struct {
	path     *path
	features []string
}

// vectorNeeds has the fastest path first.
var vectorNeeds = []requirement{
	{&avx512Path, []string{"AVX512F", "AVX512DQ", "AVX512VL", "AVX2", "BMI2"}},
	{&avx2Path, []string{"AVX2", "FMA", "BMI2"}},
}

func features() []feature {
	x := &cpu.X86
	return []feature{
		{"AVX2", x.HasAVX2}, {"FMA", x.HasFMA}, {"BMI2", x.HasBMI2},
		{"AVX512F", x.HasAVX512F}, {"AVX512DQ", x.HasAVX512DQ}, {"AVX512VL", x.HasAVX512VL}, {"AVX512BW", x.HasAVX512BW},
		{"AVX512_VNNI", x.HasAVX512VNNI}, {"AVX512_BF16", x.HasAVX512BF16}, {"AMX_TILE", x.HasAMXTile}, {"AMX_BF16", x.HasAMXBF16},
	}
}

// missing returns the features that this processor lacks.
func (n requirement) missing() []string {
	var missing []string
	found := Features()
	for _, name := range n.features {
		if !slices.Contains(found, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

func vectorChoices() []Choice {
	var choices []Choice
	for _, n := range vectorNeeds {
		choices = append(choices, Choice{Path: n.path.name, Needs: n.features, Missing: n.missing()})
	}
	return choices
}
