package kernels

// Paths returns the names of the paths that this machine can run, the fastest first.
func Paths() []string {
	var names []string
	for _, p := range allPaths() {
		names = append(names, p.name)
	}
	return names
}

// NewCPUOn is NewCPU on a path that Paths named.
func NewCPUOn(threads int, name string) (*CPU, error) {
	for _, p := range allPaths() {
		if p.name == name {
			return newCPU(threads, p)
		}
	}
	panic("kernels: no path " + name)
}
