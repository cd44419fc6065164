package checkpoint

// For the conformance tests, which are outside the package.

// Step makes a store call step before each operation on its file system.
func (d *Disk) Step(step func(op string) error) *Disk {
	d.files = &faultyDisk{hook: step}
	return d
}

// Die gives up the lock as the system does for a process that ends.
func (d *Disk) Die() {
	if d.held != nil {
		d.held.Close()
	}
}

// Folder is where the copies in memory are, "" for nowhere.
func (t *Tmpfs) Folder() string {
	if d := t.current(); d != nil {
		return d.dir
	}
	return ""
}

// IsMemory is isMemory.
var IsMemory = isMemory
