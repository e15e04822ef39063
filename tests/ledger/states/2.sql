-- A ledger as version 2 left it: one hold settled, one running, one asked for, one given back.
BEGIN TRANSACTION;
CREATE TABLE approvals (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	budget TEXT NOT NULL, 
	unit TEXT NOT NULL, 
	amount BIGINT NOT NULL CHECK (amount >= 0), 
	from_utc BIGINT NOT NULL, 
	until_utc BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
CREATE TABLE balances (
	seq INTEGER NOT NULL, 
	account TEXT NOT NULL, 
	budget TEXT NOT NULL, 
	period TEXT NOT NULL, 
	period_start_utc BIGINT NOT NULL, 
	unit TEXT NOT NULL, 
	settled BIGINT NOT NULL CHECK (settled >= 0), 
	held BIGINT NOT NULL CHECK (held >= 0), holders INTEGER NOT NULL DEFAULT 0 CHECK (holders >= 0), 
	PRIMARY KEY (seq), 
	UNIQUE (account, budget, period, period_start_utc, unit)
);
INSERT INTO "balances" VALUES(1,'desk','account','month',1793491200000000,'usd',350,170,2);
CREATE TABLE claims (
	hold_seq INTEGER NOT NULL, 
	balance_seq INTEGER NOT NULL, 
	settled BIGINT NOT NULL CHECK (settled >= 0), 
	held BIGINT NOT NULL CHECK (held >= 0), 
	PRIMARY KEY (hold_seq, balance_seq), 
	FOREIGN KEY(hold_seq) REFERENCES holds (seq), 
	FOREIGN KEY(balance_seq) REFERENCES balances (seq)
);
INSERT INTO "claims" VALUES(1,1,300,0);
INSERT INTO "claims" VALUES(2,1,50,150);
INSERT INTO "claims" VALUES(3,1,0,20);
INSERT INTO "claims" VALUES(4,1,0,0);
CREATE TABLE entries (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	hold_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	stream TEXT, 
	dataset TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	mode TEXT NOT NULL, 
	month TEXT NOT NULL, 
	started_utc BIGINT NOT NULL, 
	ended_utc BIGINT NOT NULL, 
	size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0), 
	control_bytes BIGINT NOT NULL CHECK (control_bytes >= 0), 
	unit_price_usd VARCHAR NOT NULL, 
	price_source TEXT NOT NULL, 
	cost_nano_usd BIGINT NOT NULL CHECK (cost_nano_usd >= 0), 
	residual_bytes BIGINT NOT NULL CHECK (residual_bytes >= 0), 
	residual_nano_usd BIGINT NOT NULL CHECK (residual_nano_usd >= 0), 
	ending TEXT NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (id), 
	FOREIGN KEY(hold_id) REFERENCES holds (id)
);
INSERT INTO "entries" VALUES(1,'done:1','done','desk','nq-mbo','GLBX.MDP3','mbo','live','2026-11',1795444200123456,1795469400123456,1073741824,320,'2.16','the policy''s override',2160000000,0,0,'exact','');
CREATE TABLE gaps (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	stream TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	start_utc BIGINT NOT NULL, 
	end_utc BIGINT NOT NULL, 
	mended TEXT NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "gaps" VALUES(1,'g1','desk','nq-mbo','GLBX.MDP3','mbo',1795444200123456,1795444260123456,'','reset by the vendor');
CREATE TABLE holds (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	stream TEXT, 
	dataset TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	mode TEXT NOT NULL, 
	connection_id TEXT NOT NULL, 
	month TEXT NOT NULL, 
	unit_price_usd VARCHAR NOT NULL, 
	price_source TEXT NOT NULL, 
	residual_bytes_max BIGINT NOT NULL CHECK (residual_bytes_max >= 0), 
	host TEXT NOT NULL, 
	meter TEXT, 
	opened_utc BIGINT NOT NULL, 
	request TEXT NOT NULL, 
	state TEXT NOT NULL CHECK (state IN ('held', 'active', 'settled', 'released')), 
	version BIGINT NOT NULL, activated_utc BIGINT, restated_utc BIGINT, closed_utc BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "holds" VALUES(1,'done','desk','nq-mbo','GLBX.MDP3','mbo','live','c1','2026-11','2.16','the policy''s override',5242880,'desk-1','done.meter',1795444200123456,'{}','settled',0,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(2,'running','desk','nq-mbo','GLBX.MDP3','mbo','live','c1','2026-11','2.16','the policy''s override',5242880,'desk-1','running.meter',1795444200123456,'{}','active',1,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(3,'asked','desk','nq-mbo','GLBX.MDP3','mbo','live','c1','2026-11','2.16','the policy''s override',5242880,'desk-1','asked.meter',1795444200123456,'{}','held',0,NULL,NULL,NULL);
INSERT INTO "holds" VALUES(4,'given-back','desk','nq-mbo','GLBX.MDP3','mbo','live','c1','2026-11','2.16','the policy''s override',5242880,'desk-1','given-back.meter',1795444200123456,'{}','released',0,NULL,NULL,NULL);
CREATE TABLE meta (
	name VARCHAR NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('format','budget-guard ledger');
INSERT INTO "meta" VALUES('version','2');
INSERT INTO "meta" VALUES('id','00000000000000000000000000000002');
CREATE TABLE overruns (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	hold_id TEXT NOT NULL, 
	account TEXT NOT NULL, 
	budget TEXT NOT NULL, 
	period TEXT NOT NULL, 
	period_start_utc BIGINT NOT NULL, 
	unit TEXT NOT NULL, 
	limit_amount BIGINT NOT NULL CHECK (limit_amount >= 0), 
	past BIGINT NOT NULL CHECK (past >= 0), 
	at_utc BIGINT NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
CREATE TABLE refusals (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	at_utc BIGINT NOT NULL, 
	account TEXT NOT NULL, 
	stream TEXT, 
	dataset TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	mode TEXT NOT NULL, 
	code TEXT NOT NULL, 
	decision TEXT NOT NULL, 
	asked_nano_usd BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "refusals" VALUES(1,'r1',1795444200123456,'desk',NULL,'GLBX.MDP3','mbo','historical','would_exceed','{"verdict": "deny"}',NULL);
CREATE INDEX holds_by_state ON holds (state);
CREATE INDEX refusals_by_time ON refusals (account, at_utc);
CREATE INDEX gaps_by_time ON gaps (account, start_utc);
CREATE INDEX entries_by_month ON entries (account, month);
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END;
CREATE INDEX entries_by_hold ON entries (hold_id);
CREATE INDEX approvals_by_account ON approvals (account, until_utc);
CREATE INDEX overruns_by_time ON overruns (account, at_utc);
CREATE TRIGGER approvals_no_update BEFORE UPDATE ON approvals BEGIN SELECT RAISE(ABORT, 'approvals are never changed'); END;
CREATE TRIGGER approvals_no_delete BEFORE DELETE ON approvals BEGIN SELECT RAISE(ABORT, 'approvals are never changed'); END;
CREATE TRIGGER overruns_no_update BEFORE UPDATE ON overruns BEGIN SELECT RAISE(ABORT, 'overruns are never changed'); END;
CREATE TRIGGER overruns_no_delete BEFORE DELETE ON overruns BEGIN SELECT RAISE(ABORT, 'overruns are never changed'); END;
COMMIT;
