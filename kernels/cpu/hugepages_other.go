//go:build !linux

package cpu

// adviseHuge does nothing where there is no such advice to give.
func adviseHuge([]byte) {}
