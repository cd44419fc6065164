package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"loco/checkpoint"
	"loco/worker/config"
)

// FindCheckpoint takes a checkpoint's folder, a folder of checkpoints, or a run's
// folder, and returns the checkpoint that is meant: the newest, of the lowest worker.
func FindCheckpoint(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", Usage(fmt.Errorf("checkpoint %s: %w", path, err))
	}
	if _, err := os.Stat(filepath.Join(path, "manifest.json")); err == nil {
		return path, nil
	}
	workers, err := CheckpointFolders(path)
	if err != nil {
		return "", err
	}
	newest := ""
	for _, dir := range workers {
		found, skipped, err := checkpoint.Latest(dir)
		for _, s := range skipped {
			fmt.Fprintln(os.Stderr, "loco: skipped:", s)
		}
		if err != nil && !errors.Is(err, checkpoint.ErrNone) {
			return "", err
		}
		if err == nil && filepath.Base(found) > filepath.Base(newest) { // round-00000012
			newest = found
		}
	}
	if newest != "" {
		return newest, nil
	}
	return "", Usage(fmt.Errorf("%s holds no valid checkpoint; name a run's folder or a checkpoint's (…/round-00000012)", path))
}

// CheckpointFolders lists the folders of checkpoints in path: itself, or one for each
// worker of a run.
func CheckpointFolders(path string) ([]string, error) {
	entries, err := checkpoint.List(path)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return []string{path}, nil
	}
	roots := []string{path, filepath.Join(path, "checkpoints")}
	if cfg, err := config.Load(filepath.Join(path, ConfigFile), nil); err == nil && cfg.Checkpoint.Dir != "" {
		roots = append(roots, cfg.Checkpoint.Dir)
	}
	var dirs []string
	for _, root := range roots {
		for k := range workerNumberMax {
			dir := filepath.Join(root, fmt.Sprintf("worker-%d", k))
			if entries, err := checkpoint.List(dir); err != nil {
				return nil, err
			} else if len(entries) > 0 {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, nil
}
