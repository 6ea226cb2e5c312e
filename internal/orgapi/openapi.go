package orgapi

import _ "embed"

// OpenAPI is the contract for people and generators (OpenAPI 3.1, YAML). The
// launcher does not look at it; the reference backend serves it.
//
//go:embed openapi.yaml
var OpenAPI []byte
