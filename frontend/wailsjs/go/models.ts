export namespace main {
	
	export interface About {
	    version: string;
	    language: string;
	}

}

export namespace view {
	
	export interface Problem {
	    code: string;
	    sentence: string;
	    next_step: string;
	    reference: string;
	}
	export interface Backend {
	    state: string;
	    problem?: Problem;
	    // Go type: time
	    at?: any;
	}
	export interface Check {
	    name: string;
	    state: string;
	    problem?: Problem;
	    ms: number;
	}
	export interface Checkup {
	    running: boolean;
	    // Go type: time
	    started_at: any;
	    checks: Check[];
	}
	export interface DoctorFinding {
	    code: string;
	    state: string;
	    sentence: string;
	    next_step: string;
	}
	export interface DoctorCheck {
	    name: string;
	    title: string;
	    group: string;
	    state: string;
	    findings: DoctorFinding[];
	    ms: number;
	}
	export interface Doctor {
	    running: boolean;
	    // Go type: time
	    started_at: any;
	    checks: DoctorCheck[];
	}
	
	
	export interface Keyring {
	    code: string;
	}
	export interface Launch {
	    id: string;
	    stage: string;
	    problem?: Problem;
	    // Go type: time
	    started_at: any;
	    ms: Record<string, number>;
	    reopen: boolean;
	    label: string;
	    retryable: boolean;
	    recent_id: string;
	    // Go type: time
	    fresh_until?: any;
	}
	export interface Link {
	    state: string;
	}
	export interface Notice {
	    id: number;
	    kind: string;
	    problem: Problem;
	    launch: string;
	    // Go type: time
	    at?: any;
	    actions: string[];
	}
	export interface Person {
	    subject: string;
	    email: string;
	}
	export interface Policy {
	    ok: boolean;
	    problems: string[];
	    refuses_launches: boolean;
	}
	
	export interface Recent {
	    id: string;
	    label: string;
	    // Go type: time
	    opened_at: any;
	    status: string;
	}
	export interface Setting {
	    key: string;
	    kind: string;
	    value: string;
	    choices: string[];
	    locked: boolean;
	    source: string;
	}
	export interface SignIn {
	    state: string;
	    person?: Person;
	    memory_only: boolean;
	    // Go type: time
	    ends_at?: any;
	    // Go type: time
	    page_since?: any;
	    page_open: boolean;
	    problem?: Problem;
	}
	export interface Undo {
	    removed: number;
	    // Go type: time
	    until: any;
	}
	export interface Workstation {
	    shared: boolean;
	    sign_out_on_lock: boolean;
	    idle_sign_out_minutes: number;
	}
	export interface Snapshot {
	    revision: number;
	    version: string;
	    organization_name: string;
	    help_desk_url: string;
	    language: string;
	    locale: string;
	    hidden: string[];
	    first_run: boolean;
	    sign_in: SignIn;
	    policy: Policy;
	    keyring: Keyring;
	    backend: Backend;
	    workstation: Workstation;
	    link: Link;
	    launch?: Launch;
	    recents: Recent[];
	    undo?: Undo;
	    settings: Setting[];
	    checkup?: Checkup;
	    doctor?: Doctor;
	    notice?: Notice;
	    raise_window: number;
	}
	

}

