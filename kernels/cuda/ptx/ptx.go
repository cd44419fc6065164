// Package ptx holds the kernels of kernels/cuda/src, compiled: kernels/cuda/src/build.sh makes
// them, and continuous integration holds the files to what it makes.
package ptx

import (
	_ "embed"
	"strings"
)

//go:generate ../src/build.sh

// SM80 is PTX for compute capability 8.0, which a driver compiles for every card from the
// A100 and the RTX 30 on.
//
//go:embed sm80.ptx
var SM80 string

// Kernels returns the names of the entries of PTX, in its order.
func Kernels(ptx string) []string {
	const entry = "\n.visible .entry "
	var names []string
	for {
		_, rest, found := strings.Cut(ptx, entry)
		if !found {
			return names
		}
		name, rest, _ := strings.Cut(rest, "(")
		names, ptx = append(names, name), rest
	}
}
