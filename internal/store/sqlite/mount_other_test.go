//go:build !linux

package sqlite

import "errors"

func mountTmpfs(string, string) error    { return errors.ErrUnsupported }
func mountBind(string, string) error     { return errors.ErrUnsupported }
func mountReadOnly(string, string) error { return errors.ErrUnsupported }
func unmount(string) error               { return errors.ErrUnsupported }
