//go:build !linux

package kernels

// adviseHuge does nothing where there is no such advice to give.
func adviseHuge([]byte) {}
