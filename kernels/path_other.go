//go:build !amd64 || noasm

package kernels

// vectorPaths returns the assembly that this CPU can run: none was built in.
func vectorPaths() []*path { return nil }
