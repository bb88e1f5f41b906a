-- A store of schema version 1: a job that was just accepted, and one that waits for a retry.
BEGIN TRANSACTION;
CREATE TABLE event (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job VARCHAR(26) NOT NULL, 
	seq INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	data TEXT(16777216) NOT NULL
);
INSERT INTO "event" VALUES(1,'01m7yd000000000000000000aa',1,1000.0,'queued','{"reason":"submitted","actor":"ann"}');
INSERT INTO "event" VALUES(2,'01m7yd000000000000000000bb',1,1000.0,'queued','{"reason":"submitted","actor":"ann"}');
INSERT INTO "event" VALUES(3,'01m7yd000000000000000000bb',2,1001.0,'running','{"reason":"claimed","actor":"host/1/1","attempt":3}');
INSERT INTO "event" VALUES(4,'01m7yd000000000000000000bb',3,1002.0,'retrying','{"reason":"failed, will be tried again","actor":"host/1/1","attempt":3,"error":"taskbus.error.task_failed","message":"no luck","due":1004.2567039202784}');
CREATE TABLE job (
	id VARCHAR(26) NOT NULL, 
	uri VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	timeout DOUBLE NOT NULL, 
	retries INTEGER NOT NULL, 
	args TEXT(16777216) NOT NULL, 
	kwargs TEXT(16777216) NOT NULL, 
	details TEXT(16777216) NOT NULL, 
	created DOUBLE NOT NULL, 
	due DOUBLE NOT NULL, 
	started DOUBLE, 
	finished DOUBLE, 
	attempt INTEGER NOT NULL, 
	losses INTEGER NOT NULL, 
	worker VARCHAR(255), 
	lease DOUBLE, 
	error TEXT(16777216), 
	seq INTEGER NOT NULL, 
	PRIMARY KEY (id)
)
 WITHOUT ROWID

;
INSERT INTO "job" VALUES('01m7yd000000000000000000aa','com.example.dante.sleeper','queued',500,60.0,0,'[1]','{}','{"caller_authid":"ann"}',1000.0,1000.0,NULL,NULL,0,0,NULL,NULL,NULL,1);
INSERT INTO "job" VALUES('01m7yd000000000000000000bb','com.example.dante.sleeper','retrying',500,60.0,5,'[1]','{}','{"caller_authid":"ann"}',1000.0,1.00425670392027836894e+03,1001.0,NULL,3,1,NULL,NULL,'{"error":"taskbus.error.task_failed","message":"no luck","about":{},"traceback":""}',3);
CREATE TABLE placement (
	job VARCHAR(26) NOT NULL, 
	since DOUBLE NOT NULL, 
	PRIMARY KEY (job)
)
 WITHOUT ROWID

;
INSERT INTO "placement" VALUES('01m7yd000000000000000000aa',1000.0);
INSERT INTO "placement" VALUES('01m7yd000000000000000000bb',1000.0);
CREATE TABLE result (
	job VARCHAR(26) NOT NULL, 
	body TEXT(67108864) NOT NULL, 
	PRIMARY KEY (job)
)
 WITHOUT ROWID

;
CREATE TABLE taskbus_schema (
	version INTEGER NOT NULL
);
INSERT INTO "taskbus_schema" VALUES(1);
CREATE INDEX job_waiting ON job (due) WHERE state IN ('scheduled', 'retrying');
CREATE UNIQUE INDEX event_of_job ON event (job, seq);
COMMIT;
