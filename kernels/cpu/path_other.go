//go:build (!amd64 && !arm64) || noasm

package cpu

import "runtime"

// builtWithAssembly says whether vectorPaths can find any.
const builtWithAssembly = false

// rest lets others run for a moment.
func rest() { runtime.Gosched() }

// vectorPaths returns the assembly that this CPU can run: none was built in.
func vectorPaths() []*path { return nil }
