package delivery

import "strings"

// The codes of what can go wrong, beside status_NNN: the status of a place's answer.
const (
	CodeUnreachable  = "unreachable"
	CodeTimeout      = "timeout"
	CodeUntrusted    = "certificate_untrusted"
	CodeFailed       = "failed"
	CodeDiskFull     = "disk_full"
	CodeFolderDenied = "folder_denied"
	CodeFolderFailed = "folder_failed"
	CodeFileConflict = "file_conflict"
	// The log says more of these two: what the FHIR server answered.
	CodeDocumentFailed  = "fhir_failed"
	CodeDocumentRefused = "fhir_refused"
	CodeUnreadable      = "unreadable"
	CodeSealed          = "sealed"
)

// Advice says in one or two sentences what a code means and what a person can do
// about it. For a code that it does not know it says where to look.
func Advice(code string) string {
	switch code {
	case "":
		return ""
	case CodeUnreachable:
		return "The place does not answer. It is tried again; see whether it runs, and its address, name service, proxy and firewall."
	case CodeTimeout:
		return "The place took longer than 15 seconds. It is tried again; see what holds it up."
	case CodeUntrusted:
		return "The place's certificate is not trusted. Name its authority in ca_file, or have the certificate repaired."
	case CodeDiskFull:
		return "The disk of deliver.folder is full. Make room; it is tried again."
	case CodeFolderDenied:
		return "org-backend may not write into deliver.folder. It must own it, with mode 0700."
	case CodeFolderFailed:
		return "The file could not be written into deliver.folder. org-backend's log has the system's reason; it is tried again."
	case CodeFileConflict:
		return "deliver.folder has a file of this name with another content. Move that file away, then replay."
	case CodeDocumentFailed:
		return "The FHIR server did not take the document. See org-backend's log for its status, its own log, and the client and its scopes there; it is tried again."
	case CodeDocumentRefused:
		return "The FHIR server refused this document, or does not know the patient. See org-backend's log for its status, repair it there, then replay; or enter the note by hand and discard."
	case CodeUnreadable:
		return "What is kept is not a callback that this version reads. Upgrade org-backend, then replay."
	case CodeSealed:
		return "It was sealed by a key that is not among nats.seal_key_files. Put that key back; it is delivered then."
	case "status_400", "status_422":
		return "The place refused this note for what is in it. See its log, repair it there, then replay; or enter the note by hand and discard."
	case "status_401", "status_403":
		return "The place does not accept our credential. Compare the secret (webhook) or the client and its scopes (fhir) at both ends; it is tried again."
	case "status_404", "status_410", "status_405":
		return "There is no such address at the place. See deliver.webhook.url or fhir.base_url; it is tried again."
	case "status_409":
		return "The place says that it conflicts with what it has. A note that it has already it must answer with 200. See its log, then replay or discard."
	case "status_413":
		return "The note is too large for the place. Raise its limit, then replay."
	case "status_415":
		return "The place does not take application/json. Repair it there, then replay."
	case "status_429", "status_503":
		return "The place is busy. It is tried again when it asks for."
	}
	switch {
	case strings.HasPrefix(code, "status_3"):
		return "The place redirects, which is not followed. Name the final address."
	case strings.HasPrefix(code, "status_5"):
		return "The place failed. See its log; it is tried again."
	}
	return "See org-backend's log, and that of the place, at this time."
}
