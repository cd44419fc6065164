package kernels

// HostValues returns the values of a buffer that lies in the host's memory, and nil for
// one that does not. Who writes to them must know that no [Weight] is made from them: a
// device follows only what is written through it.
func HostValues(b Buffer) []float32 {
	if c, ok := b.(*cpuBuffer); ok {
		return c.v
	}
	return nil
}
