//go:build (!amd64 && !arm64) || noasm

package kernels

// builtWithAssembly says whether vectorPaths can find any.
const builtWithAssembly = false

// vectorPaths returns the assembly that this CPU can run: none was built in.
func vectorPaths() []*path { return nil }
