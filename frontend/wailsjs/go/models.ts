export namespace main {
	
	export interface About {
	    version: string;
	    language: string;
	}

}

export namespace view {
	
	export interface Keyring {
	    code: string;
	}
	export interface Problem {
	    code: string;
	    sentence: string;
	    next_step: string;
	    reference: string;
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
	}
	export interface Notice {
	    id: number;
	    problem: Problem;
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
	export interface SignIn {
	    state: string;
	    person?: Person;
	    memory_only: boolean;
	    problem?: Problem;
	}
	export interface Snapshot {
	    revision: number;
	    version: string;
	    organization_name: string;
	    help_desk_url: string;
	    language: string;
	    sign_in: SignIn;
	    policy: Policy;
	    keyring: Keyring;
	    launch?: Launch;
	    recents: Recent[];
	    notice?: Notice;
	    raise_window: number;
	}

}

