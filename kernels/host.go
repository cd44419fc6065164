package kernels

// HostValues returns the values of a buffer that lies in the host's memory, and nil for
// one that does not. Code that writes to them must know that no [Weight] is made from
// them: a device follows only what is written through it.
func HostValues(b Buffer) []float32 {
	if h, ok := b.(interface{ HostValues() []float32 }); ok {
		return h.HostValues()
	}
	return nil
}
