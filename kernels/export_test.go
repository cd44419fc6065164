package kernels

// Paths returns the names of the paths that this machine can run, the fastest first.
func Paths() []string {
	var names []string
	for _, p := range allPaths() {
		names = append(names, p.name)
	}
	return names
}

// Halves returns the names of the ways to multiply bf16 values that this machine has.
func Halves() []string {
	var names []string
	for _, h := range halves() {
		names = append(names, h.name)
	}
	return names
}

// NewCPUHalf is NewCPU on the first path in bf16 by one of Halves.
func NewCPUHalf(threads int, name string) (*CPU, error) {
	for _, h := range halves() {
		if h.name == name {
			return newCPU(threads, allPaths()[0], h)
		}
	}
	panic("kernels: no way to multiply bf16 named " + name)
}

// NewCPUOn is NewCPU in float32 on a path that Paths named.
func NewCPUOn(threads int, name string) (*CPU, error) {
	for _, p := range allPaths() {
		if p.name == name {
			return newCPU(threads, p, nil)
		}
	}
	panic("kernels: no path " + name)
}
