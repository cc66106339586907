// Package api holds the contract of Holdfast: the OpenAPI file that the server serves and that the tests hold it against.
package api

import _ "embed"

// OpenAPI is openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte
