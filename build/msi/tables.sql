# What wixl 0.101 cannot say, one statement of msibuild's SQL a line; @NAME@ and
# @FILEVERSION@ are filled in by build.sh. Types and attributes are those of the Windows
# Installer database reference.

# A value that is not given is not written; one that is gone is not brought back (64: Transitive); and whatever there is, goes in the end.
UPDATE Component SET Condition='AUTOSTART="1" OR REMOVE="ALL"', Attributes=324 WHERE Component='Run'
UPDATE Component SET Condition='BACKENDURL OR REMOVE="ALL"', Attributes=324 WHERE Component='BackendURL'
UPDATE Component SET Condition='OIDCISSUER OR REMOVE="ALL"', Attributes=324 WHERE Component='OIDCIssuer'
UPDATE Component SET Condition='OIDCCLIENTID OR REMOVE="ALL"', Attributes=324 WHERE Component='OIDCClientID'
UPDATE Component SET Condition='ENCOUNTERURLHOSTS OR REMOVE="ALL"', Attributes=324 WHERE Component='EncounterHosts'
UPDATE Component SET Condition='AUTOSTART="1" OR AUTOSTART="0" OR REMOVE="ALL"', Attributes=324 WHERE Component='Autostart'
UPDATE Component SET Condition='LANGUAGE OR REMOVE="ALL"', Attributes=324 WHERE Component='Language'
UPDATE Component SET Condition='ORGANIZATION OR REMOVE="ALL"', Attributes=324 WHERE Component='OrganizationName'

# What is given is kept by an upgrade and by a repair, unless something else is given (51: set a property).
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepInstallDir', 51, 'INSTALLDIR', '[KEPTINSTALLDIR]')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepBackendURL', 51, 'BACKENDURL', '[KEPTBACKENDURL]')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepOIDCIssuer', 51, 'OIDCISSUER', '[KEPTOIDCISSUER]')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepOIDCClientID', 51, 'OIDCCLIENTID', '[KEPTOIDCCLIENTID]')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepEncounterURLHosts', 51, 'ENCOUNTERURLHOSTS', '[KEPTENCOUNTERURLHOSTS]')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepAutostartOn', 51, 'AUTOSTART', '1')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepAutostartOff', 51, 'AUTOSTART', '0')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepLanguage', 51, 'LANGUAGE', '[KEPTLANGUAGE]')
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('KeepOrganization', 51, 'ORGANIZATION', '[KEPTORGANIZATION]')
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepInstallDir', 'KEPTINSTALLDIR AND NOT INSTALLDIR', 110)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepBackendURL', 'KEPTBACKENDURL AND NOT BACKENDURL', 111)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepOIDCIssuer', 'KEPTOIDCISSUER AND NOT OIDCISSUER', 112)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepOIDCClientID', 'KEPTOIDCCLIENTID AND NOT OIDCCLIENTID', 113)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepEncounterURLHosts', 'KEPTENCOUNTERURLHOSTS AND NOT ENCOUNTERURLHOSTS', 114)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepAutostartOn', 'KEPTAUTOSTART="#1" AND NOT AUTOSTART', 115)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepAutostartOff', 'KEPTAUTOSTART="#0" AND NOT AUTOSTART', 116)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepLanguage', 'KEPTLANGUAGE AND NOT LANGUAGE', 117)
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('KeepOrganization', 'KEPTORGANIZATION AND NOT ORGANIZATION', 118)

# What Windows Installer looks up it looks up itself, and takes it from no person: only an administrator's properties reach it (wixl has
# the two of the upgrade in SecureCustomProperties, and no more). Had the person's side looked already, the installer's would not.
DELETE FROM InstallUISequence WHERE Action='AppSearch'

# The type that the policy wants: a number.
UPDATE Registry SET Value='#[AUTOSTART]' WHERE Registry='AutostartNumber'

# The agents of all sessions end before their files are removed or replaced. On an upgrade this is the action of the installed
# package, which RemoveExistingProducts runs. Its outcome is not waited for beyond its own limit of time (34: a program by its path;
# 64: goes on after a failure; 1024: deferred; 2048: not as the user). Anybody may start a repair, and this runs as SYSTEM: so it is the
# program that has no console.
INSERT INTO CustomAction (Action, Type, Source, Target) VALUES ('QuitAgents', 3170, 'INSTALLDIR', '"[INSTALLDIR]@NAME@.exe" quit --all-sessions')
INSERT INTO InstallExecuteSequence (Action, Condition, Sequence) VALUES ('QuitAgents', 'Installed', 1520)

# Inside the transaction: an upgrade that fails brings the old version back.
UPDATE InstallExecuteSequence SET Sequence=1510 WHERE Action='RemoveExistingProducts'

# A shell finds the program; .com comes before .exe (=: set, -: remove with the component, *: for the computer).
CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)
INSERT INTO Environment (Environment, Name, Value, Component_) VALUES ('Path', '=-*Path', '[~];[INSTALLDIR]', 'ProgramCom')
INSERT INTO InstallExecuteSequence (Action, Sequence) VALUES ('RemoveEnvironmentStrings', 3300)
INSERT INTO InstallExecuteSequence (Action, Sequence) VALUES ('WriteEnvironmentStrings', 5200)

# Without a version in the table, a program that has one on the disk would never be replaced.
UPDATE File SET Version='@FILEVERSION@', Language='1033' WHERE File='Exe'
UPDATE File SET Version='@FILEVERSION@', Language='1033' WHERE File='Com'
