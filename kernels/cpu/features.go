package cpu

import "loco/kernels"

// Choice says of one path whether this machine can run it.
type Choice struct {
	Path  string   `json:"path"`
	Needs []string `json:"needs,omitempty"` // of the processor, or of how this program was built
	// Missing is the part of Needs that is not there. New takes the first choice
	// that misses nothing.
	Missing []string `json:"missing,omitempty"`
}

// Choices returns the paths that there are for this architecture, the fastest first.
func Choices() []Choice {
	choices := vectorChoices()
	fused := Choice{Path: fusedName, Needs: []string{"a compiler that fuses multiply and add"}}
	if !compilerFuses() {
		fused.Missing = fused.Needs
	}
	return append(choices, fused, Choice{Path: plainPath.name})
}

// A feature is one that a processor may have.
type feature struct {
	name  string
	found bool
}

// Features returns the names of what this processor has, of all that vector code may
// need. The system must save the registers too, or they do not count as found. Where a
// build has no assembly nothing is looked for.
func Features() []string {
	var found []string
	for _, f := range features() {
		if f.found {
			found = append(found, f.name)
		}
	}
	return found
}

// PrecisionChoices returns the ways to multiply bf16 that there are for this
// architecture, in the order in which New prefers them.
func PrecisionChoices() []Choice { return halfChoices() }

// Precision says in what d multiplies matrices: "fp32", "bf16 by AMX".
func (d *Device) Precision() string {
	if d.half == nil {
		return string(kernels.FP32)
	}
	return "bf16 by " + d.half.name
}

// Threads is the number of threads that d computes with.
func (d *Device) Threads() int { return d.threads }

// Path is the name of the path that d computes on.
func (d *Device) Path() string { return d.path.name }
