// Package checkpoint keeps a worker's state across crashes and restarts.
//
// # Format
//
// A checkpoint is three files, under the name of its round:
//
//	round-00000123/
//	    model.safetensors   the parameters, under the names State.Model gives them
//	    state.safetensors   everything else: outer state, moments, residuals
//	    manifest.json       version, round, step, tokens, worker, meta, and for each
//	                        file its size and SHA-256; the last field is the SHA-256
//	                        of the manifest without it
//
// [Write] and [Read] convert a [State] to that and back. [Read] compares every hash.
//
// # Stores
//
// A [Store] holds the files: [Disk] in a folder, [Tmpfs] in memory. In a store a
// checkpoint is complete or invisible, whatever fails and wherever the process dies. A
// checkpoint that is visible and does not verify was damaged later. Readers name it in a
// [CorruptError] and use the one before it.
//
// A new store implements [Store], passes the suite in checkpoint/storetest, and has a line
// in [Local] or in a function like it.
//
// # Writing
//
// [Writer] writes in the background: training copies its state to a buffer and goes on. A
// snapshot passes through a list of stages, the fastest first: from memory, which outlives
// the process, to the disk, which outlives the machine.
//
// # Reading
//
// [List], [Load], [Verify] and [Latest] read a folder on this machine without a lock.
package checkpoint
