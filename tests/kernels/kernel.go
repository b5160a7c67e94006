package kernels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoKernels: the kernels could not be fetched. The error says why.
var ErrNoKernels = errors.New("the kernels cannot be fetched")

// Kernel is one of Debian's, unpacked.
type Kernel struct {
	Series  string // "6.1"
	Release string // as uname prints it
	Image   string
	Modules string // a directory
}

// Fetch has scripts/kernels.sh fetch the kernels, oldest first. root is the
// directory of the project.
//
// Errors: ErrNoKernels.
func Fetch(ctx context.Context, root string) ([]Kernel, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "kernels.sh"))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %s", ErrNoKernels, err, strings.TrimSpace(stderr.String()))
	}
	var found []Kernel
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			return nil, fmt.Errorf("%w: kernels.sh printed %q", ErrNoKernels, line)
		}
		found = append(found, Kernel{f[0], f[1], filepath.Join(f[2], "vmlinuz"), filepath.Join(f[2], "modules")})
	}
	return found, nil
}
