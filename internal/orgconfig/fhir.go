package orgconfig

// faults reports what is wrong with the section, by key. The forms of the other values
// are judged where they are used.
func (f FHIR) faults(fault func(key, what string)) {
	if f.BaseURL == "" {
		if f.TokenURL != "" || f.ClientID != "" || len(f.KeyFiles) != 0 || len(f.Scopes) != 0 || f.PatientSystem != "" || f.CAFile != "" {
			fault("fhir.base_url", "it is missing")
		}
		return
	}
	if !ServerURL(f.BaseURL) {
		fault("fhir.base_url", "it is not a plain https URL without a trailing slash")
	}
	if f.ClientID == "" {
		fault("fhir.client_id", "it is missing")
	}
	if len(f.KeyFiles) == 0 {
		fault("fhir.key_files", "there is none")
	}
}
